package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// answering returns a client to a store that gives one answer to everything,
// and the store.
func answering(t *testing.T, answer string) (*Client, *wire) {
	t.Helper()
	w := newWire(t, func(int, *wireRequest) (string, bool) { return answer, true })
	return newClient(t, w.url()), w
}

func TestListingsAreDecoded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body     string
		keys     []string
		prefixes []string
		next     string
		fails    bool
	}{
		"encoded": {
			`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>` +
				`<NextContinuationToken>a+b%2F</NextContinuationToken><Contents><Key>a+b%2Bc%20%01%FF</Key><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>` +
				`<CommonPrefixes><Prefix>p%2F+</Prefix></CommonPrefixes></ListBucketResult>`,
			[]string{"a b+c \x01\xff"}, []string{"p/ "}, "a+b%2F", false,
		},
		"not encoded":        {`<ListBucketResult><Contents><Key>a+b%2B</Key></Contents></ListBucketResult>`, []string{"a+b%2B"}, nil, "", false},
		"bad escape":         {`<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2</Key></Contents></ListBucketResult>`, nil, nil, "", true},
		"truncated, no next": {`<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`, nil, nil, "", true},
		"same next again":    {`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>here</NextContinuationToken></ListBucketResult>`, nil, nil, "", true},
		"another document":   {`<ListAllMyBucketsResult></ListAllMyBucketsResult>`, nil, nil, "", true},
		"nothing":            {``, nil, nil, "", true},
		"cut":                {`<ListBucketResult><Contents><Key>a</Key></Contents>`, nil, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, w := answering(t, plain(200, tc.body))
			page, err := c.ListObjects(t.Context(), "b", ListQuery{Prefix: "a +%", Continuation: "here", StartAfter: "ignored", MaxKeys: 5})
			if (err != nil) != tc.fails {
				t.Fatalf("%v", err)
			}
			q := w.seen()[0].URL.Query()
			if q.Get("encoding-type") != "url" || q.Get("prefix") != "a +%" || q.Get("continuation-token") != "here" || q.Has("start-after") || q.Get("max-keys") != "5" {
				t.Errorf("query %v", q)
			}
			if tc.fails {
				return
			}
			var keys []string
			for _, e := range page.Entries {
				keys = append(keys, e.Key)
			}
			if !slices.Equal(keys, tc.keys) || !slices.Equal(page.Prefixes, tc.prefixes) || page.Next != tc.next {
				t.Errorf("%+v", page)
			}
		})
	}
}

func TestBatchDeleteTellsEveryKey(t *testing.T) {
	t.Parallel()
	c, w := answering(t, plain(200, `<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error>`+
		`<Error><Key>c</Key><Code>NoSuchKey</Code></Error></DeleteResult>`))
	failed, err := c.DeleteObjects(t.Context(), "data", []string{"a", "b", "c"})
	if err != nil || !reflect.DeepEqual(failed, []KeyError{{"b", "AccessDenied", "no"}}) {
		t.Errorf("%v, %v", failed, err)
	}
	r := w.seen()[0]
	if r.Header.Get("Content-Md5") == "" || !r.URL.Query().Has("delete") || !strings.Contains(string(r.body), "<Quiet>true</Quiet>") {
		t.Errorf("%s %s", r.RequestURI, r.body)
	}

	cut, _ := answering(t, plain(200, `<DeleteResult><Error><Key>b</Key>`))
	if _, err := cut.DeleteObjects(t.Context(), "data", []string{"a"}); OutcomeOf(err) != Unknown || err == nil {
		t.Errorf("cut answer: %v", err)
	}
}

func TestTypedAnswersMustSayEnough(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, tc := range map[string]struct {
		answer string
		call   func(*Client) error
	}{
		"put without ETag": {plain(200, ""), func(c *Client) error {
			_, err := c.PutObject(ctx, "b", "k", strings.NewReader("x"), 1, PutOptions{})
			return err
		}},
		"copy without a body": {plain(200, ""), func(c *Client) error {
			_, err := c.CopyObject(ctx, Source{Bucket: "b", Key: "k"}, "b", "k2", nil)
			return err
		}},
		"copy without ETag": {plain(200, "<CopyObjectResult/>"), func(c *Client) error {
			_, err := c.CopyObject(ctx, Source{Bucket: "b", Key: "k"}, "b", "k2", nil)
			return err
		}},
		"complete with <Error>": {plain(200, "\n\n"+internal), func(c *Client) error {
			_, err := c.CompleteMultipartUpload(ctx, "b", "k", "id", nil, nil)
			return err
		}},
		"part copy with <Error>": {plain(200, " "+slowDown), func(c *Client) error {
			_, err := c.UploadPartCopy(ctx, Source{Bucket: "b", Key: "k"}, "b", "k2", "id", 1, nil)
			return err
		}},
		"create without an id": {plain(200, "<InitiateMultipartUploadResult/>"), func(c *Client) error {
			_, err := c.CreateMultipartUpload(ctx, "b", "k", nil)
			return err
		}},
		"head without a length": {"HTTP/1.1 200 OK\r\n\r\n", func(c *Client) error {
			_, err := c.HeadObject(ctx, "b", "k", nil)
			return err
		}},
		"parts that go nowhere": {plain(200, "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>"), func(c *Client) error {
			_, err := c.ListParts(ctx, "b", "k", "id", 0, 0)
			return err
		}},
		"uploads that go nowhere": {plain(200, "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>"), func(c *Client) error {
			_, err := c.ListMultipartUploads(ctx, "b", "", "", "", 0)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := answering(t, tc.answer)
			if err := tc.call(c); err == nil || OutcomeOf(err) != Unknown {
				t.Errorf("%v, want an error of unknown outcome", err)
			}
		})
	}
}

func TestCopyAndCompleteSayWhatTheyMust(t *testing.T) {
	t.Parallel()
	c, w := answering(t, plain(200, complete))
	src := Source{Bucket: "src", Key: "a b+/ü", IfMatch: `"e1"`, Range: "bytes=0-4"}
	if _, err := c.UploadPartCopy(t.Context(), src, "b", "k", "id", 3, http.Header{"X-Amz-Copy-Source": {"smuggled"}}); err != nil {
		t.Fatal(err)
	}
	parts := []Part{{Number: 1, ETag: "e1", Checksums: map[string]string{"ChecksumCRC32": "AAAA==", "Other": "x"}}, {Number: 2, ETag: `"e2"`}}
	s, err := c.CompleteMultipartUpload(t.Context(), "b", "k", "id", parts, http.Header{"If-None-Match": {"*"}})
	if err != nil || s.ETag != "e-1" {
		t.Fatalf("%+v, %v", s, err)
	}
	r := w.seen()[0]
	if r.Header.Get("X-Amz-Copy-Source") != "src/a%20b%2B/%C3%BC" || r.Header.Get("X-Amz-Copy-Source-If-Match") != `"e1"` ||
		r.Header.Get("X-Amz-Copy-Source-Range") != "bytes=0-4" || r.URL.Query().Get("partNumber") != "3" || r.URL.Query().Get("uploadId") != "id" {
		t.Errorf("part copy: %s %v", r.RequestURI, r.Header)
	}
	r = w.seen()[1]
	want := `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>&#34;e1&#34;</ETag>` +
		`<ChecksumCRC32>AAAA==</ChecksumCRC32></Part><Part><PartNumber>2</PartNumber><ETag>&#34;e2&#34;</ETag></Part></CompleteMultipartUpload>`
	if string(r.body) != want || r.Header.Get("If-None-Match") != "*" {
		t.Errorf("complete: %s %v", r.body, r.Header)
	}
}

func TestListPartsCarriesChecksums(t *testing.T) {
	t.Parallel()
	c, _ := answering(t, plain(200, `<ListPartsResult><Part><PartNumber>2</PartNumber><ETag>"e"</ETag><Size>9</Size><ChecksumSHA256>abc=</ChecksumSHA256><Foo>x</Foo></Part></ListPartsResult>`))
	page, err := c.ListParts(t.Context(), "b", "k", "id", 1, 1)
	if err != nil || !reflect.DeepEqual(page.Parts, []Part{{Number: 2, ETag: "e", Size: 9, Checksums: map[string]string{"ChecksumSHA256": "abc="}}}) {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestCreateBucketNamesTheRegion(t *testing.T) {
	t.Parallel()
	_, w := answering(t, plain(200, ""))
	for region, want := range map[string]string{"": "", "us-east-1": "", "eu-west-1": "<LocationConstraint>eu-west-1</LocationConstraint>"} {
		c, err := New(Config{Endpoint: w.url(), Region: region, AccessKey: "a", SecretKey: "b", PathStyle: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if _, err := c.CreateBucket(t.Context(), "b", nil, nil); err != nil {
			t.Fatal(err)
		}
		seen := w.seen()
		if body := string(seen[len(seen)-1].body); !strings.Contains(body, want) || want == "" && body != "" {
			t.Errorf("region %q: %s", region, body)
		}
	}
}

// Some stores lose it on the way to their verifier.
func TestEmptyContentTypeIsSentUnsigned(t *testing.T) {
	t.Parallel()
	c, w := answering(t, plain(200, ""))
	for value, signed := range map[string]bool{"": false, "text/plain": true} {
		resp, err := c.Do(t.Context(), &Request{Method: http.MethodPut, Bucket: "b", Key: "k", Mutation: true, Header: http.Header{"Content-Type": {value}}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		seen := w.seen()
		got := seen[len(seen)-1]
		if v := got.Header["Content-Type"]; len(v) != 1 || v[0] != value || strings.Contains(got.RequestURI, "content-type") != signed {
			t.Errorf("%q: %s, %q", value, got.RequestURI, v)
		}
	}
}

func TestCreateBucketHasTagsAndARN(t *testing.T) {
	t.Parallel()
	c, w := answering(t, "HTTP/1.1 200 OK\r\nx-amz-bucket-arn: arn:aws:s3:::b\r\nContent-Length: 0\r\n\r\n")
	arn, err := c.CreateBucket(t.Context(), "b", []Tag{{"k", "a&b"}, {"l", ""}}, nil)
	if err != nil || arn != "arn:aws:s3:::b" {
		t.Fatal(arn, err)
	}
	want := "<Tags><Tag><Key>k</Key><Value>a&amp;b</Value></Tag><Tag><Key>l</Key><Value></Value></Tag></Tags>"
	if body := string(w.seen()[0].body); !strings.Contains(body, want) || strings.Contains(body, "LocationConstraint") {
		t.Error(body)
	}
}

func TestPingNamesTheRegion(t *testing.T) {
	t.Parallel()
	c, _ := answering(t, plain(400, `<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-1'</Message></Error>`))
	if err := c.Ping(t.Context(), "b"); !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "expecting 'eu-west-1'") {
		t.Errorf("%v", err)
	}
	c, _ = answering(t, plain(403, denied))
	if err := c.Ping(t.Context(), ""); err != nil {
		t.Errorf("a key that may not list buckets: %v", err)
	}
	if err := c.Ping(t.Context(), "b"); !errors.Is(err, ErrCredentials) {
		t.Errorf("a key that may not list the bucket: %v", err)
	}
}

// Conditions of a read come back as errors that can be relayed.
func TestConditionsOfReads(t *testing.T) {
	t.Parallel()
	c, _ := answering(t, "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n")
	_, err := c.GetObject(t.Context(), "b", "k", "", http.Header{"If-None-Match": {`"e"`}})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != 304 || e.Code != "NotModified" || e.Header.Get("Etag") != `"e"` || e.Outcome != Refused {
		t.Errorf("%+v", err)
	}
	c, _ = answering(t, "HTTP/1.1 412 Precondition Failed\r\n\r\n")
	if _, err := c.HeadObject(t.Context(), "b", "k", nil); !HasCode(err, "PreconditionFailed") {
		t.Errorf("%v", err)
	}
}

// A store that accepts a connection and then takes no bytes must not hold an
// upload for ever.
func TestStoreThatTakesNoBytes(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	c := newClient(t, "http://"+ln.Addr().String(), WithUserTimeout(500*time.Millisecond))
	const size = 64 << 20 // more than the socket buffers take
	begun := time.Now()
	_, err = c.PutObject(t.Context(), "b", "k", io.LimitReader(zeros{}, size), size, PutOptions{})
	if OutcomeOf(err) != Unknown || err == nil {
		t.Errorf("%v (%v), want unknown", OutcomeOf(err), err)
	}
	t.Logf("gave up after %v: %v", time.Since(begun), err)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// MinIO takes key markers only that begin with the prefix. One that does not is
// below all keys, or above.
func TestUploadMarkersOutsideThePrefix(t *testing.T) {
	t.Parallel()
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("key-marker"))
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult><Upload><Key>b/1</Key><UploadId>u</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>")
	}))
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	for marker, want := range map[string]int{"": 1, "a": 1, "b": 1, "b/0": 1, "c": 0} {
		page, err := c.ListMultipartUploads(t.Context(), "data", "b/", marker, "", 10)
		if err != nil || len(page.Uploads) != want {
			t.Errorf("after %q: %+v, %v", marker, page, err)
		}
	}
	for _, marker := range asked {
		if marker != "" && marker != "b/0" {
			t.Errorf("the store was asked for keys after %q", marker)
		}
	}
}

func TestListTellsChecksumAlgorithms(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<ListBucketResult><Contents><Key>k</Key><Size>1</Size><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType></Contents></ListBucketResult>")
	}))
	t.Cleanup(srv.Close)
	page, err := newClient(t, srv.URL).ListObjects(t.Context(), "data", ListQuery{})
	if err != nil || len(page.Entries) != 1 || len(page.Entries[0].ChecksumAlgorithms) != 1 || page.Entries[0].ChecksumAlgorithms[0] != "CRC32" || page.Entries[0].ChecksumType != "COMPOSITE" {
		t.Errorf("%+v, %v", page, err)
	}
}
