package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/corpus"
)

// canned answers each connection with the same bytes and then ends it.
type canned struct{ answer []byte }

func (c *canned) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	answer := c.answer
	go func() {
		defer there.Close()
		r, err := http.ReadRequest(bufio.NewReader(there))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		_, _ = there.Write(answer)
	}()
	return &conn{Conn: here, raw: here}, nil
}

func newCanned(tb testing.TB) (*Client, *canned) {
	tb.Helper()
	c, err := New(Config{Name: "main", Endpoint: "http://store.test", AccessKey: "k", SecretKey: "s", PathStyle: true})
	if err != nil {
		tb.Fatal(err)
	}
	store := &canned{}
	real := c.transport.(*http.Transport)
	real.DialContext = store.dial
	real.DisableKeepAlives = true
	tb.Cleanup(c.Close)
	return c, store
}

// plainly is what an answer says when read without this package.
type plainly struct {
	status int
	body   []byte
	// cut says that it ends before its framing says so, or has none.
	cut bool
	// root is the name of the first element, empty where there is none; whole says
	// that the document is well formed to its end.
	root, code string
	whole      bool
}

func read(raw []byte, method string) (p plainly, ok bool) {
	in := bufio.NewReader(bytes.NewReader(raw))
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return p, false
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		p.status = resp.StatusCode
		p.body, err = io.ReadAll(resp.Body)
		p.cut = err != nil
		break
	}
	d := xml.NewDecoder(bytes.NewReader(p.body))
	for {
		t, err := d.Token()
		if err != nil {
			p.whole = errors.Is(err, io.EOF)
			break
		}
		if start, ok := t.(xml.StartElement); ok && p.root == "" {
			p.root = start.Name.Local
		}
	}
	var e struct{ Code string }
	if xml.Unmarshal(p.body, &e) == nil {
		p.code = e.Code
	}
	return p, true
}

// FuzzAnswers reads arbitrary bytes as the store's answer to each kind of request. What
// is called done the store said it did, in a whole answer of 2xx that is no <Error>;
// what is called refused it refused, in a whole answer; everything else is unknown. No
// list leads back to where it came from.
func FuzzAnswers(f *testing.F) {
	for _, m := range corpus.Answers(f) {
		f.Add(m.Raw)
	}
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<Error/>\n",
		"HTTP/1.1 200 OK\r\n\r\n<Error><Code>InternalError</Code></Error>",
		"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n<CopyObjectResult><ETag>x</ETag></CopyObjectResult>",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nEtag: \"x\"\r\n\r\n3\r\n   \r\n0\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 42\r\n\r\n<Error><Code>AccessDenied</Code></Error>  ",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP/1.0 200 OK\r\nEtag: x\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 129\r\n\r\n<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>here</NextContinuationToken></ListBucketResult>",
	} {
		f.Add([]byte(s))
	}
	c, store := newCanned(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<20 {
			return
		}
		store.answer = raw
		ctx := t.Context()
		verdict := func(what, method string, err error) {
			t.Helper()
			p, ok := read(raw, method)
			switch outcome := OutcomeOf(err); {
			case outcome == NotSent:
				t.Fatalf("%s: it was sent: %v", what, err)
			case outcome == Took && (!ok || p.cut || p.status/100 != 2 || p.root == "Error"):
				t.Fatalf("%s: called done after %q", what, raw)
			case outcome == Refused && (!ok || p.cut):
				t.Fatalf("%s: called refused after %q: %v", what, raw, err)
			case outcome == Refused && p.status/100 != 4 && p.status != http.StatusNotModified && (p.status/100 != 2 || p.root != "Error"):
				t.Fatalf("%s: called refused after %d: %v", what, p.status, err)
			case outcome == Refused && p.status/100 == 2 && !refusals[p.code]:
				t.Fatalf("%s: called refused after 200 with %q", what, p.code)
			}
		}
		stored, err := c.PutObject(ctx, "data", "k", strings.NewReader("x"), 1, PutOptions{})
		verdict("PutObject", http.MethodPut, err)
		if err == nil && stored.ETag == "" {
			t.Fatalf("stored without an ETag: %q", raw)
		}
		stored, err = c.CopyObject(ctx, Source{Bucket: "data", Key: "k"}, "data", "l", nil)
		verdict("CopyObject", http.MethodPut, err)
		if p, _ := read(raw, http.MethodPut); err == nil && (stored.ETag == "" || !p.whole && len(bytes.TrimSpace(p.body)) == 0) {
			t.Fatalf("copied without an ETag: %q", raw)
		}
		_, err = c.CompleteMultipartUpload(ctx, "data", "k", "id", []Part{{Number: 1, ETag: "x"}}, nil)
		verdict("CompleteMultipartUpload", http.MethodPost, err)
		id, err := c.CreateMultipartUpload(ctx, "data", "k", nil)
		verdict("CreateMultipartUpload", http.MethodPost, err)
		if err == nil && id == "" {
			t.Fatalf("an upload without an id: %q", raw)
		}
		err = c.AbortMultipartUpload(ctx, "data", "k", "id")
		verdict("AbortMultipartUpload", http.MethodDelete, err)
		if err = c.DeleteObject(ctx, "data", "k"); err != nil {
			verdict("DeleteObject", http.MethodDelete, err)
		}
		_, err = c.DeleteObjects(ctx, "data", []string{"k"})
		verdict("DeleteObjects", http.MethodPost, err)

		if info, err := c.HeadObject(ctx, "data", "k", nil); err == nil && info.Size < 0 {
			t.Fatalf("a size of %d", info.Size)
		}
		if o, err := c.GetObject(ctx, "data", "k", "", nil); err == nil {
			n, err := io.Copy(io.Discard, o.Body)
			o.Body.Close()
			if err == nil && o.Size >= 0 && n != o.Size {
				t.Fatalf("%d bytes of %d were taken for the object", n, o.Size)
			}
		}
		if page, err := c.ListObjects(ctx, "data", ListQuery{Continuation: "here"}); err == nil && page.Next == "here" {
			t.Fatalf("a list leads back to where it came from: %q", raw)
		}
		if page, err := c.ListMultipartUploads(ctx, "data", "", "here", "id", 0); err == nil && page.NextKey == "here" && page.NextID == "id" {
			t.Fatalf("a list leads back to where it came from: %q", raw)
		}
		if page, err := c.ListParts(ctx, "data", "k", "id", 7, 0); err == nil && page.Next != 0 && page.Next <= 7 {
			t.Fatalf("a list leads back to part %d: %q", page.Next, raw)
		}
	})
}

// TestRecordedAnswers: of each answer of a real store it is known what became of the
// request.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	c, store := newCanned(t)
	for _, m := range corpus.Answers(t) {
		if !m.Whole {
			continue
		}
		method := http.MethodPut
		switch {
		case strings.HasPrefix(m.Operation, "Head"):
			continue // an answer without a body is none to anything else
		case strings.HasPrefix(m.Operation, "Delete"), strings.HasPrefix(m.Operation, "Abort"):
			method = http.MethodDelete
		}
		p, ok := read(m.Raw, method)
		if !ok || p.cut {
			t.Errorf("%s: it cannot be read plainly", m.File)
			continue
		}
		store.answer = m.Raw
		_, err := c.Do(t.Context(), &Request{Method: method, Bucket: "data", Key: "k", Mutation: true})
		want := Unknown
		switch {
		case p.status/100 == 2 && p.root != "Error":
			want = Took
		case p.status/100 == 4 && p.root == "Error", p.status == http.StatusNotModified:
			want = Refused
		}
		if got := OutcomeOf(err); got != want {
			t.Errorf("%s is %s, want %s: %v", m.File, got, want, err)
		}
	}
}
