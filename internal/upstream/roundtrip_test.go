package upstream

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "AKTEST"
	testSecret = "secret/with+signs="
)

// newClient returns a client to endpoint that is closed with the test.
func newClient(t testing.TB, endpoint string, opts ...Option) *Client {
	t.Helper()
	c, err := New(Config{Name: "main", Endpoint: endpoint, AccessKey: testKey, SecretKey: testSecret, PathStyle: true}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newStore returns a client to a store that checks signatures, with bucket "data".
func newStore(t testing.TB) (*Client, *httptest.Server) {
	t.Helper()
	faker := gofakes3.New(s3mem.New(), gofakes3.WithV4Auth(map[string]string{testKey: testSecret}))
	srv := httptest.NewServer(faker.Server())
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	if _, err := c.CreateBucket(t.Context(), "data", nil, nil); err != nil {
		t.Fatal(err)
	}
	return c, srv
}

func put(t testing.TB, c *Client, key, content string) *Stored {
	t.Helper()
	s, err := c.PutObject(t.Context(), "data", key, strings.NewReader(content), int64(len(content)), PutOptions{})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return s
}

func get(t testing.TB, c *Client, key, byteRange string) string {
	t.Helper()
	o, err := c.GetObject(t.Context(), "data", key, byteRange, nil)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer o.Body.Close()
	b, err := io.ReadAll(o.Body)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return string(b)
}

var oddKeys = []string{
	"plain", "a b", "a+b", "100%", "ü/日本", "a?b=c&d#e", "q'uo\"te", "semi;colon", "star*", "~tilde", "(paren)!", "a=b:c@d,$",
	"\x01\x02control", "back\\slash", "%2F", "trailing/", "a%zz",
}

func TestKeysAreExactBytes(t *testing.T) {
	t.Parallel()
	c, _ := newStore(t)
	for _, key := range oddKeys {
		put(t, c, key, "content of "+key)
	}
	for _, key := range oddKeys {
		if got := get(t, c, key, ""); got != "content of "+key {
			t.Errorf("key %q holds %q", key, got)
		}
	}
	page, err := c.ListObjects(t.Context(), "data", ListQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, e := range page.Entries {
		listed = append(listed, e.Key)
	}
	want := slices.Sorted(slices.Values(oddKeys))
	if !slices.Equal(listed, want) {
		t.Errorf("listed %q\nwant   %q", listed, want)
	}
	for _, key := range oddKeys {
		copied, err := c.CopyObject(t.Context(), Source{Bucket: "data", Key: key}, "data", "copy", nil)
		if err != nil || copied.ETag == "" || get(t, c, "copy", "") != "content of "+key {
			t.Errorf("copy of %q: %v, %v", key, copied, err)
		}
		if err := c.DeleteObject(t.Context(), "data", key); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
		if _, err := c.HeadObject(t.Context(), "data", key, nil); !NotFound(err) {
			t.Errorf("head of deleted %q: %v, want not found", key, err)
		}
	}
}

func TestPutGetHead(t *testing.T) {
	t.Parallel()
	c, _ := newStore(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for name, body := range map[string]io.Reader{
		"memory": bytes.NewReader(big),
		"stream": io.MultiReader(bytes.NewReader(big)),
		"dribs":  iotest.HalfReader(bytes.NewReader(big)),
		"eof":    iotest.DataErrReader(bytes.NewReader(big)),
	} {
		t.Run(name, func(t *testing.T) {
			sum := md5.Sum(big)
			s, err := c.PutObject(t.Context(), "data", name, body, int64(len(big)), PutOptions{
				ContentMD5: base64.StdEncoding.EncodeToString(sum[:]),
				Header:     http.Header{"X-Amz-Meta-Colour": {"blue  green"}, "Content-Type": {"text/x-test"}, "Content-Encoding": {"aws-chunked,gzip"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if s.ETag != hex.EncodeToString(sum[:]) {
				t.Errorf("ETag %s", s.ETag)
			}
			info, err := c.HeadObject(t.Context(), "data", name, nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size != int64(len(big)) || info.ETag != s.ETag || info.LastModified.IsZero() ||
				info.Header.Get("X-Amz-Meta-Colour") == "" || info.Header.Get("Content-Type") != "text/x-test" || info.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("head: %+v", info)
			}
			if got := get(t, c, name, "bytes=16-31"); got != "0123456789abcdef" {
				t.Errorf("range: %q", got)
			}
			if got := get(t, c, name, ""); got != string(big) {
				t.Errorf("got %d bytes, want %d", len(got), len(big))
			}
		})
	}
	if s := put(t, c, "empty", ""); s.ETag != "d41d8cd98f00b204e9800998ecf8427e" {
		t.Errorf("ETag of nothing: %s", s.ETag)
	}
	if _, err := c.PutObject(t.Context(), "data", "empty", iotest.ErrReader(io.EOF), 0, PutOptions{}); err != nil {
		t.Errorf("empty stream: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c, srv := newStore(t)
	put(t, c, "k", "old")
	zero := base64.StdEncoding.EncodeToString(make([]byte, 16))
	_, err := c.PutObject(t.Context(), "data", "k", strings.NewReader("new"), 3, PutOptions{ContentMD5: zero})
	if OutcomeOf(err) != Refused || !HasCode(err, "BadDigest") {
		t.Errorf("wrong MD5: %v", err)
	}
	_, err = c.PutObject(t.Context(), "none", "k", strings.NewReader("new"), 3, PutOptions{})
	if OutcomeOf(err) != Refused || !HasCode(err, "NoSuchBucket") || NotFound(err) {
		t.Errorf("no bucket: %v", err)
	}
	_, err = c.GetObject(t.Context(), "data", "none", "", nil)
	if !NotFound(err) {
		t.Errorf("no key: %v", err)
	}
	if get(t, c, "k", "") != "old" {
		t.Error("a refused PUT replaced the object")
	}

	late := newClient(t, srv.URL, WithClock(func() time.Time { return time.Now().Add(-20 * time.Second) }))
	_, err = late.PutObject(t.Context(), "data", "k", strings.NewReader("late"), 4, PutOptions{})
	if OutcomeOf(err) != Refused || get(t, c, "k", "") != "old" {
		t.Errorf("a PUT signed 20 s ago and valid for 15 s: %v, want refused", err)
	}
	_, err = c.Do(t.Context(), &Request{Method: http.MethodDelete, Bucket: "data", Key: "k", Mutation: true, SignedAt: time.Now().Add(-16 * time.Second)})
	if OutcomeOf(err) != Refused {
		t.Errorf("an expired DELETE: %v, want refused", err)
	}
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	c, _ := newStore(t)
	ctx := t.Context()
	const key = "multi part"
	id, err := c.CreateMultipartUpload(ctx, "data", key, http.Header{"X-Amz-Meta-A": {"b"}})
	if err != nil {
		t.Fatal(err)
	}
	ups, err := c.ListMultipartUploads(ctx, "data", "multi", "", "", 10)
	if err != nil || len(ups.Uploads) != 1 || ups.Uploads[0].Key != key || ups.Uploads[0].ID != id {
		t.Fatalf("uploads %+v, %v", ups, err)
	}
	first := strings.Repeat("a", 5<<20)
	put(t, c, "source", "0123456789")
	var parts []Part
	p1, err := c.UploadPart(ctx, "data", key, id, 1, io.MultiReader(strings.NewReader(first)), int64(len(first)), PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p2, err := c.UploadPartCopy(ctx, Source{Bucket: "data", Key: "source", Range: "bytes=2-5"}, "data", key, id, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for after := 0; ; {
		page, err := c.ListParts(ctx, "data", key, id, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, page.Parts...)
		if after = page.Next; after == 0 {
			break
		}
	}
	if len(parts) != 2 || parts[0].ETag != p1.ETag || parts[0].Size != 5<<20 || parts[1].ETag != p2.ETag || parts[1].Number != 2 {
		t.Fatalf("parts %+v, want %s and %s", parts, p1.ETag, p2.ETag)
	}
	_, err = c.CompleteMultipartUpload(ctx, "data", key, id, []Part{{Number: 1, ETag: "0123"}}, nil)
	if OutcomeOf(err) != Refused {
		t.Errorf("complete with a wrong part: %v", err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, "data", key, id, parts, nil); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, key, ""); got != first+"2345" {
		t.Errorf("completed object has %d bytes", len(got))
	}
	id, err = c.CreateMultipartUpload(ctx, "data", key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AbortMultipartUpload(ctx, "data", key, id); err != nil {
		t.Fatal(err)
	}
	if err := c.AbortMultipartUpload(ctx, "data", key, id); !HasCode(err, "NoSuchUpload") {
		t.Errorf("second abort: %v", err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	c, _ := newStore(t)
	for i := range 7 {
		put(t, c, fmt.Sprintf("dir/%d x", i), "v")
		put(t, c, fmt.Sprintf("sub %d/a", i), "v")
	}
	var keys, prefixes []string
	for q := (ListQuery{Delimiter: "/", MaxKeys: 3}); ; {
		page, err := c.ListObjects(t.Context(), "data", q)
		if err != nil {
			t.Fatal(err)
		}
		prefixes = append(prefixes, page.Prefixes...)
		if q.Continuation = page.Next; q.Continuation == "" {
			break
		}
	}
	if want := []string{"dir/", "sub 0/", "sub 1/", "sub 2/", "sub 3/", "sub 4/", "sub 5/", "sub 6/"}; !slices.Equal(prefixes, want) {
		t.Errorf("prefixes %q", prefixes)
	}
	page, err := c.ListObjects(t.Context(), "data", ListQuery{Prefix: "dir/", StartAfter: "dir/4 x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		keys = append(keys, e.Key)
	}
	if !slices.Equal(keys, []string{"dir/5 x", "dir/6 x"}) {
		t.Errorf("keys after dir/4 x: %q", keys)
	}
}

func TestDeleteObjects(t *testing.T) {
	t.Parallel()
	c, _ := newStore(t)
	keys := []string{"a", "b & <c>", "not there", "ü+ "}
	for _, k := range keys[:2] {
		put(t, c, k, "v")
	}
	put(t, c, keys[3], "v")
	failed, err := c.DeleteObjects(t.Context(), "data", keys)
	if err != nil || len(failed) != 0 {
		t.Fatalf("failed %v, %v", failed, err)
	}
	page, err := c.ListObjects(t.Context(), "data", ListQuery{})
	if err != nil || len(page.Entries) != 0 {
		t.Errorf("left: %+v, %v", page, err)
	}
	if _, err := c.DeleteObjects(t.Context(), "data", []string{"\x01"}); !errors.Is(err, ErrRequest) {
		t.Errorf("control character: %v", err)
	}
	if _, err := c.DeleteObjects(t.Context(), "data", make([]string, 1001)); !errors.Is(err, ErrRequest) {
		t.Errorf("1001 keys: %v", err)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	c, srv := newStore(t)
	if err := c.Ping(t.Context(), "data"); err != nil {
		t.Error(err)
	}
	if err := c.Ping(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if err := c.HeadBucket(t.Context(), "data", nil); err != nil {
		t.Error(err)
	}
	if err := c.HeadBucket(t.Context(), "none", nil); !NotFound(err) {
		t.Errorf("HeadBucket(none) = %v", err)
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello</html>") }))
	t.Cleanup(page.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	with := func(key, secret string) *Client {
		c, err := New(Config{Name: "main", Endpoint: srv.URL, AccessKey: key, SecretKey: secret, PathStyle: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	for name, tc := range map[string]struct {
		c      *Client
		bucket string
		is     error
		want   string
	}{
		"unreachable":  {newClient(t, gone.URL), "data", ErrUnreachable, "is it running"},
		"no bucket":    {c, "none", ErrNoSuchBucket, "create it"},
		"unknown key":  {with("AKOTHER", testSecret), "data", ErrCredentials, "check access_key"},
		"wrong secret": {with(testKey, "wrong"), "data", ErrCredentials, "check secret_key"},
		"no S3":        {newClient(t, page.URL), "data", nil, "not as an S3 store"},
		"skewed":       {newClient(t, srv.URL, WithClock(func() time.Time { return time.Now().Add(time.Hour) })), "data", ErrCredentials, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.c.Ping(t.Context(), tc.bucket)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("Ping = %v\nwant one line with %q that is %v", err, tc.want, tc.is)
			}
		})
	}
}
