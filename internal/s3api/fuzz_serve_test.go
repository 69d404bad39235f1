package s3api

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/corpus"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// TestRecordedRequestsRoute: each request of a real client is the operation that it
// was recorded as.
func TestRecordedRequestsRoute(t *testing.T) {
	t.Parallel()
	s := &Server{}
	for _, m := range corpus.Requests(t) {
		t.Run(m.File, func(t *testing.T) {
			t.Parallel()
			r, err := m.Request()
			if err != nil {
				t.Fatal(err)
			}
			rawPath, rawQuery, err := sigv4.RawTarget(r)
			if err != nil {
				t.Fatal(err)
			}
			path, err := sigv4.DecodePath(rawPath)
			if err != nil {
				t.Fatal(err)
			}
			params, err := sigv4.ParseQuery(rawQuery)
			if err != nil {
				t.Fatal(err)
			}
			bucket, key, l, err := s.place(r.Host, path)
			if err != nil {
				t.Fatal(err)
			}
			o, err := route(r.Method, l, params, len(r.Header["X-Amz-Copy-Source"]) > 0)
			if err != nil {
				t.Fatal(err)
			}
			if o.name != m.Operation {
				t.Errorf("%s %s is %s", r.Method, r.RequestURI, o.name)
			}
			if l == objectLevel && "/"+bucket+"/"+key != path {
				t.Errorf("%q is %q in %q", path, key, bucket)
			}
		})
	}
}

// spyStore answers with what real stores answered, and remembers what it was asked.
type spyStore struct {
	answers []spyAnswer
	mu      sync.Mutex
	next    int
	asked   []*http.Request
}

type spyAnswer struct {
	status int
	header http.Header
	body   []byte
}

func newSpyStore(f *testing.F) *spyStore {
	f.Helper()
	s := &spyStore{}
	for _, m := range corpus.Answers(f) {
		if !m.Whole {
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(m.Raw)), &http.Request{Method: methodOf(m.Operation)})
		if err != nil {
			f.Fatalf("%s: %v", m.File, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			f.Fatalf("%s: %v", m.File, err)
		}
		for _, name := range []string{"Content-Length", "Connection", "Date"} {
			resp.Header.Del(name)
		}
		s.answers = append(s.answers, spyAnswer{resp.StatusCode, resp.Header, body})
	}
	return s
}

func methodOf(operation string) string {
	if strings.HasPrefix(operation, "Head") {
		return http.MethodHead
	}
	return http.MethodGet
}

func (s *spyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A body that breaks off stores nothing, and may do so when the next input runs.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	s.asked = append(s.asked, r)
	a := s.answers[s.next%len(s.answers)]
	s.mu.Unlock()
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// begin chooses the next answer and forgets what was asked.
func (s *spyStore) begin(answer int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.asked = answer, nil
}

func (s *spyStore) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// resign puts a good signature of the test's own on a request as it stands: the fuzzer
// cannot make one, and what is behind the signature is what is looked for here.
func resign(r *http.Request) error {
	rawPath, rawQuery, err := sigv4.RawTarget(r)
	if err != nil {
		return err
	}
	var kept []string
	for piece := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(piece, "=")
		switch name {
		case "", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders":
		default:
			kept = append(kept, piece)
		}
	}
	r.RequestURI = rawPath
	if len(kept) > 0 {
		r.RequestURI += "?" + strings.Join(kept, "&")
	}
	now := time.Now().UTC()
	h := r.Header
	h.Del("X-Amz-Security-Token")
	h.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	if h.Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		h.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		h.Del("X-Amz-Trailer")
		h.Del("X-Amz-Decoded-Content-Length")
		if h.Get("Content-Encoding") == "aws-chunked" {
			h.Del("Content-Encoding")
		}
	}
	path, err := sigv4.DecodePath(rawPath)
	if err != nil {
		return err
	}
	params, err := sigv4.ParseQuery(strings.Join(kept, "&"))
	if err != nil {
		return err
	}
	pairs := make([]string, 0, len(params))
	for _, p := range params {
		pairs = append(pairs, sigv4.EncodeQuery(p.Name)+"\x00"+sigv4.EncodeQuery(p.Value))
	}
	slices.Sort(pairs)
	for i, p := range pairs {
		pairs[i] = strings.Replace(p, "\x00", "=", 1)
	}
	signed := []string{"host"}
	for name := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") || strings.HasPrefix(lower, "x-fencing-") {
			signed = append(signed, lower)
		}
	}
	slices.Sort(signed)
	canonical := []string{r.Method, sigv4.EncodePath(path), strings.Join(pairs, "&")}
	for _, name := range signed {
		values := slices.Clone(h[http.CanonicalHeaderKey(name)])
		if name == "host" {
			values = []string{r.Host}
		}
		for i, v := range values {
			for v = strings.Trim(v, " \t"); strings.Contains(v, "  "); {
				v = strings.ReplaceAll(v, "  ", " ")
			}
			values[i] = v
		}
		canonical = append(canonical, name+":"+strings.Join(values, ","))
	}
	canonical = append(canonical, "", strings.Join(signed, ";"), h.Get("X-Amz-Content-Sha256"))
	sum := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	scope := now.Format("20060102") + "/us-east-1/s3/aws4_request"
	key := []byte("AWS4" + testSecret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := mac(key, "AWS4-HMAC-SHA256\n"+h.Get("X-Amz-Date")+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	h["Authorization"] = []string{fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", testKey, scope, strings.Join(signed, ";"), signature)}
	return nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// FuzzServe sends whatever reads as an HTTP request, well signed, through the whole
// pipeline, over a store that answers with what some store once answered to something.
// It never panics nor says 500 for itself; each answer is one of S3's; what reaches the
// store names, byte for byte, the object that the client named, or the source of its
// copy; nothing of a scope is touched under its plain key, and nothing of the fence, of
// the client's signature or of our own names goes to the store.
func FuzzServe(f *testing.F) {
	spy := newSpyStore(f)
	srv := httptest.NewServer(spy)
	f.Cleanup(srv.Close)
	b := newBench(f, newUpstream(f, srv.URL), []fence.Guard{guard(f, 1, "s3://data/jobs/"), guard(f, 2, "s3://fenced/")})
	for i, m := range corpus.Seeds(f) {
		f.Add(m.Raw, i)
	}
	f.Add([]byte("PUT /data/jobs/a HTTP/1.1\r\nHost: x\r\nX-Fencing-Token: 5\r\nContent-Length: 1\r\n\r\nx"), 0)
	f.Add([]byte("PUT /data//jobs/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"), 1)
	f.Add([]byte("GET /data/%2e%2e/fenced/k HTTP/1.1\r\nHost: x\r\n\r\n"), 2)
	f.Add([]byte("PUT /other/b HTTP/1.1\r\nHost: x\r\nX-Amz-Copy-Source: data/jobs%2Fa\r\n\r\n"), 3)
	f.Add([]byte("POST /data?delete HTTP/1.1\r\nHost: x\r\nContent-Length: 58\r\n\r\n<Delete><Object><Key>.s3fence/x</Key></Object></Delete>..."), 4)
	f.Add([]byte("GET /?x-id=ListBuckets HTTP/1.1\r\nHost: data.s3.test\r\n\r\n"), 5)
	f.Fuzz(func(t *testing.T, raw []byte, answer int) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil || len(raw) > 256<<10 || answer < 0 || resign(r) != nil {
			return
		}
		r.RemoteAddr = "192.0.2.1:1"
		spy.begin(answer)
		b.mu.Lock()
		b.records, b.events = nil, nil
		b.mu.Unlock()
		b.fake.forget()
		rawPath, _, _ := strings.Cut(r.RequestURI, "?")
		source := r.Header.Get("X-Amz-Copy-Source")
		w := httptest.NewRecorder()
		// The pipeline puts parts of a presigned query into the header.
		own := r.Clone(t.Context())
		own.Body = r.Body
		b.ServeHTTP(w, own.WithContext(t.Context()))

		status := spy.answers[answer%len(spy.answers)].status
		rec := b.last(t)
		if rec.Status == 500 && status != 500 {
			t.Fatalf("%s %q: 500 %s: %s", r.Method, r.RequestURI, rec.Code, w.Body)
		}
		if w.Code >= 400 && r.Method != http.MethodHead {
			var e struct {
				XMLName xml.Name `xml:"Error"`
				Code    string
			}
			if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" {
				t.Fatalf("%s %q: %d without a code of S3: %v\n%s", r.Method, r.RequestURI, w.Code, err, w.Body)
			}
		}
		path, err := sigv4.DecodePath(rawPath)
		if err != nil {
			return
		}
		bucket, key, l, err := b.place(r.Host, path)
		for _, sent := range spy.seen() {
			if err != nil {
				t.Fatalf("%q is %v, but the store was asked %s %s", r.RequestURI, err, sent.Method, sent.RequestURI)
			}
			sentPath, _, _ := strings.Cut(sent.RequestURI, "?")
			got, bad := sigv4.DecodePath(sentPath)
			if bad != nil {
				t.Fatalf("the store was sent the path %q: %v", sentPath, bad)
			}
			for name := range sent.Header {
				if strings.HasPrefix(name, "X-Fencing-") || name == "X-Amz-Security-Token" || strings.HasPrefix(name, "X-Amz-Meta-Fencing-") {
					t.Fatalf("%q: the store was sent %s", r.RequestURI, name)
				}
			}
			if strings.Contains(sent.Header.Get("Authorization")+sent.RequestURI, testKey+"/") {
				t.Fatalf("%q: the store was sent the client's signature", r.RequestURI)
			}
			gotBucket, gotKey, _ := strings.Cut(strings.TrimPrefix(got, "/"), "/")
			mutates := sent.Method != http.MethodGet && sent.Method != http.MethodHead
			inScope := gotBucket == "fenced" && gotKey != "" || gotBucket == "data" && strings.HasPrefix(gotKey, "jobs/")
			ours := fence.IsReserved(gotKey)
			switch {
			case inScope && !ours:
				t.Fatalf("%s %q reached the store as %s %q, past the fence", r.Method, r.RequestURI, sent.Method, got)
			case ours && rec.Scope.IsZero() && source == "" && rec.Operation != "DeleteObjects":
				t.Fatalf("%s %q reached what is ours: %s %q", r.Method, r.RequestURI, sent.Method, got)
			case l == objectLevel && mutates && !ours && got != "/"+mappedTo(bucket)+"/"+key:
				t.Fatalf("%s %q changes %q", r.Method, r.RequestURI, got)
			case l == objectLevel && !mutates && !ours && source == "" && got != "/"+mappedTo(bucket)+"/"+key:
				t.Fatalf("%s %q reads %q", r.Method, r.RequestURI, got)
			case l == bucketLevel && gotBucket != mappedTo(bucket):
				t.Fatalf("%s %q asks for the bucket %q", r.Method, r.RequestURI, got)
			case l == bucketLevel && gotKey != "" && !ours && rec.Operation != "DeleteObjects":
				t.Fatalf("%s %q asks for the object %q", r.Method, r.RequestURI, got)
			}
		}
	})
}

// mappedTo is the store's name of a bucket of the bench.
func mappedTo(bucket string) string {
	if bucket == "alias" {
		return "realname"
	}
	return bucket
}

// forget drops all objects and uploads, and what was written down.
func (f *fakeObjects) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.objects)
	clear(f.uploads)
	clear(f.marks)
	f.ops, f.puts = nil, nil
}
