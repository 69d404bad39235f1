package sigv4

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// exampleTime is the moment of every example in the documentation of AWS.
var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func exampleVerifier() *Verifier {
	return verifierAt(exampleTime)
}

func verifierAt(now time.Time) *Verifier {
	return NewVerifier(Options{
		Credentials: StaticCredentials{exampleKey: exampleSecret},
		Now:         func() time.Time { return now },
		MustSign:    []string{"X-Fencing-"},
	})
}

// wire reads a request as net/http reads it from a connection. Lines of head end
// in a plain line feed; body follows as it is.
func wire(tb testing.TB, head, body string) *http.Request {
	tb.Helper()
	text := strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n" + body
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		tb.Fatalf("ReadRequest: %v\n%s", err, head)
	}
	return r
}

// overWire sends a client's request through its wire form, as a server sees it.
func overWire(tb testing.TB, r *http.Request) *http.Request {
	tb.Helper()
	var buf bytes.Buffer
	if err := r.Write(&buf); err != nil {
		tb.Fatalf("Write: %v", err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&buf))
	if err != nil {
		tb.Fatalf("ReadRequest: %v", err)
	}
	return got
}

// readBody verifies r and reads its body, in pieces that do not match chunks.
func readBody(v *Verifier, r *http.Request, o BodyOptions) ([]byte, *Body, error) {
	s, err := v.Verify(r)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.Body(r, o)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(onlyReader{b})
	if err == nil && !b.Verified() {
		err = errors.New("io.EOF from a body that is not verified")
	}
	if _, again := b.Read(make([]byte, 1)); err != nil && (again == nil || again == io.EOF) { //nolint:errorlint // a refusal may wrap io.EOF
		err = errors.Join(err, errors.New("the error did not stick"))
	}
	return data, b, err
}

type onlyReader struct{ io.Reader }

func wantCode(tb testing.TB, err error, code Code) {
	tb.Helper()
	if got := CodeOf(err); got != code {
		tb.Fatalf("code %q, want %q: %v", got, code, err)
	}
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if e, ok := errors.AsType[*Error](err); ok && e.CanonicalRequest != "" {
		tb.Fatalf("%v\n--- canonical request\n%s\n--- string to sign\n%s", err, e.CanonicalRequest, e.StringToSign)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
