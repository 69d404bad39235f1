package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/corpus"
)

// recordedKeys are the credentials of the corpus, temporary ones with whatever session
// token.
type recordedKeys map[string]string

func (k recordedKeys) Lookup(_ context.Context, accessKey, _ string) (string, error) {
	if secret := k[accessKey]; secret != "" {
		return secret, nil
	}
	return "", ErrUnknownKey
}

func recordedVerifier(tb testing.TB, now func() time.Time) *Verifier {
	tb.Helper()
	return NewVerifier(Options{Credentials: recordedKeys(corpus.Secrets(tb)), Now: now, MustSign: []string{"X-Fencing-"}})
}

// TestRecordedRequestsVerify: what real clients sign verifies at the time at which they
// did, and their bodies with it; half an hour later it does not, but for presigned URLs,
// which say for how long they count; and a body that was cut off is never taken for whole.
func TestRecordedRequestsVerify(t *testing.T) {
	t.Parallel()
	for _, m := range corpus.Requests(t) {
		t.Run(m.File, func(t *testing.T) {
			t.Parallel()
			r, err := m.Request()
			noError(t, err)
			now := corpus.SignedAt(r)
			v := recordedVerifier(t, func() time.Time { return now })
			s, err := verifyAsServer(v, r)
			noError(t, err)
			b, err := s.Body(r, BodyOptions{ObjectChecksum: m.Operation == "CompleteMultipartUpload"})
			noError(t, err)
			got, err := io.ReadAll(b)
			if m.Whole {
				noError(t, err)
				if s.Payload == PayloadSHA256 && !b.Verified() {
					t.Error("the body is not verified")
				}
			} else if err == nil {
				t.Errorf("%d bytes of a body that was cut off are taken for it", len(got))
			}
			late, err := m.Request()
			noError(t, err)
			now = now.Add(30 * time.Minute)
			if _, err := verifyAsServer(v, late); err == nil && s.Kind == KindHeader {
				t.Error("it verifies half an hour later")
			}
		})
	}
}

// verifyAsServer is what the S3 API does: without a body none needs to be announced.
func verifyAsServer(v *Verifier, r *http.Request) (*Signed, error) {
	if r.ContentLength == 0 {
		return v.VerifyBuffered(r, 1)
	}
	return v.Verify(r)
}

// meaning is what a signed request says, whatever its spelling.
type meaning struct {
	method, host, path string
	params             []Param
	headers            map[string]string
}

func meaningOf(r *http.Request, s *Signed) (meaning, error) {
	path, err := DecodePath(s.RawPath)
	m := meaning{method: r.Method, path: path, params: slices.Clone(s.Params), headers: map[string]string{}}
	slices.SortFunc(m.params, func(p, q Param) int { return strings.Compare(p.Name+"\x00"+p.Value, q.Name+"\x00"+q.Value) })
	for _, name := range s.SignedHeaders() {
		values, _ := headerValues(r, name)
		var text []string
		for _, v := range values {
			text = append(text, string(appendCollapsed(nil, v)))
		}
		m.headers[name] = strings.Join(text, ",")
	}
	m.host = r.Host
	return m, err
}

func (m meaning) equal(o meaning) bool {
	return m.method == o.method && m.host == o.host && m.path == o.path && slices.Equal(m.params, o.params) && maps.Equal(m.headers, o.headers)
}

// FuzzRecorded changes what real clients sent in arbitrary ways. Nobody here knows their
// secrets, so what still verifies must mean what one of them said: method, host, key,
// parameters, signed headers, and a body whose bytes the client signed.
func FuzzRecorded(f *testing.F) {
	now := time.Time{}
	v := recordedVerifier(f, func() time.Time { return now })
	said := map[string][]meaning{} // by signature
	bodies := map[string][sha256.Size]byte{}
	for _, m := range corpus.Requests(f) {
		r, err := m.Request()
		noError(f, err)
		now = corpus.SignedAt(r)
		s, err := verifyAsServer(v, r)
		noError(f, err)
		what, err := meaningOf(r, s)
		noError(f, err)
		signature := strings.ToLower(s.claim.signature)
		said[signature] = append(said[signature], what)
		if b, err := s.Body(r, BodyOptions{}); err == nil && m.Whole {
			if got, err := io.ReadAll(b); err == nil {
				bodies[signature] = sha256.Sum256(got)
			}
		}
	}
	for _, m := range corpus.Seeds(f) {
		f.Add(m.Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil || len(raw) > 1<<20 {
			return
		}
		now = corpus.SignedAt(r)
		s, err := verifyAsServer(v, r)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok && !errors.Is(err, ErrAnonymous) {
				t.Fatalf("a refusal without a code: %v", err)
			}
			return
		}
		what, err := meaningOf(r, s)
		noError(t, err)
		signature := strings.ToLower(s.claim.signature)
		if !slices.ContainsFunc(said[signature], what.equal) {
			t.Fatalf("accepted what nobody said: %+v", what)
		}
		b, err := s.Body(r, BodyOptions{})
		if err != nil {
			return
		}
		got, err := io.ReadAll(b)
		if len(got) > len(raw) {
			t.Fatalf("%d bytes came out of %d", len(got), len(raw))
		}
		signed := s.Payload != PayloadUnsigned && s.Payload != PayloadUnsignedChunksTrailer && s.Kind == KindHeader
		if want, known := bodies[signature]; err == nil && signed && (!known || sha256.Sum256(got) != want) {
			t.Fatalf("accepted a body of %d bytes that nobody signed", len(got))
		}
	})
}
