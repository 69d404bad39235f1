package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/upstream"
)

// What the differential tests (e2e, TestDiffEveryOperation) found, each by itself.

// Whoever says whose bucket it is counts on being refused where it is another's,
// also by what s3fence answers, or does, without the client's request going there.
func TestExpectedBucketOwner(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data", "plain"), nil)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if v := r.Header.Get("X-Amz-Expected-Bucket-Owner"); v == "" || v == "us" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		if r.Method != http.MethodHead {
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
		}
		return true
	})
	in := newGuarded(t)
	in.Server.buckets.(*bucketMap).only = b.store
	batch := deletes("data", "", "cas/k")
	for _, bench := range []*bench{b, in} {
		for _, c := range []call{
			{method: "HEAD", target: "/data"},
			{method: "GET", target: "/data?location"},
			{method: "GET", target: "/data?list-type=2"},
			{method: "GET", target: "/data?prefix=cas/"},
			{method: "GET", target: "/data?uploads"},
			{method: "PUT", target: "/data/cas/k", body: "x"},
			{method: "GET", target: "/data/cas/k"},
			{method: "HEAD", target: "/data/cas/k"},
			{method: "GET", target: "/data/cas/k?tagging"},
			{method: "PUT", target: "/data/cas/k?tagging", body: "<Tagging><TagSet></TagSet></Tagging>"},
			{method: "POST", target: "/data/cas/k?uploads"},
			{method: "PUT", target: "/data/cas/copy", header: map[string]string{"x-amz-copy-source": "/data/cas/k"}},
			batch,
			{method: "DELETE", target: "/data/cas/k"},
		} {
			for owner, refused := range map[string]bool{"them": true, "us": false} {
				r := c
				r.header = map[string]string{"x-amz-expected-bucket-owner": owner}
				for k, v := range c.header {
					r.header[k] = v
				}
				got := bench.call(t, r)
				if (got.status == http.StatusForbidden) != refused {
					t.Errorf("%s %s, owner %s: %d %s", c.method, c.target, owner, got.status, got.body)
				}
			}
		}
	}
	in.call(t, call{method: "PUT", target: "/data/cas/k", body: "x"})
	for owner, want := range map[string]int{"them": 403, "us": 200} {
		got := in.call(t, call{method: "PUT", target: "/data/cas/copy", header: map[string]string{"x-amz-copy-source": "/data/cas/k", "x-amz-source-expected-bucket-owner": owner}})
		if got.status != want {
			t.Errorf("copy from a bucket of %s: %d %s", owner, got.status, got.body)
		}
	}
}

// The store's answer that is no success keeps what S3 says in it: headers that
// describe the object or its delete marker, elements that say what is wrong. What
// the store says of s3fence itself stays here.
func TestErrorsKeepTheirDetails(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	answers := map[string]func(w http.ResponseWriter){
		"/data/condition": func(w http.ResponseWriter) {
			w.Header().Set("ETag", `"abc"`)
			w.Header().Set("Last-Modified", "Thu, 26 Nov 2026 03:00:00 GMT")
			w.WriteHeader(http.StatusPreconditionFailed)
			fmt.Fprint(w, "<Error><Code>PreconditionFailed</Code><Message>m</Message><Condition>If-Match</Condition><AWSAccessKeyId>ours</AWSAccessKeyId><StringToSign>ours</StringToSign></Error>")
		},
		"/data/marker": func(w http.ResponseWriter) {
			w.Header().Set("x-amz-delete-marker", "true")
			w.Header().Set("x-amz-version-id", "v1")
			w.Header().Set("x-amz-request-id", "theirs")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<Error><Code>NoSuchKey</Code><Message>m</Message></Error>")
		},
	}
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		f := answers[r.URL.Path]
		if f != nil {
			f(w)
		}
		return f != nil
	})
	got := b.call(t, call{method: "GET", target: "/data/condition"})
	if got.status != 412 || got.header.Get("ETag") != `"abc"` || got.header.Get("Last-Modified") == "" || !strings.Contains(got.body, "<Condition>If-Match</Condition>") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if strings.Contains(got.body, "ours") {
		t.Errorf("what the store says of us is told: %s", got.body)
	}
	got = b.call(t, call{method: "GET", target: "/data/marker"})
	if got.status != 404 || got.header.Get("x-amz-delete-marker") != "true" || got.header.Get("x-amz-version-id") != "v1" || got.header.Get("x-amz-request-id") == "theirs" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// What the store does not implement is not sent again by clients, in a scope
// either.
func TestStoreThatCannotIsNotUnavailable(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	rq := &request{s: b.Server, fenced: true}
	cause := &upstream.Error{Status: 501, Code: "NotImplemented", Message: "no encryption here"}
	if got := rq.answerTo(fmt.Errorf("%w: writing: %w", guarded.ErrStore, cause)); got.status != 501 || got.code != "NotImplemented" || got.retry {
		t.Errorf("%d %s, retry %v", got.status, got.code, got.retry)
	}
	cause = &upstream.Error{Status: 500, Code: "InternalError"}
	if got := rq.answerTo(fmt.Errorf("%w: writing: %w", guarded.ErrStore, cause)); got.status != 503 {
		t.Errorf("%d %s", got.status, got.code)
	}
}

// A setting that the store does not know must not reach it as a request without
// the setting: DELETE ?analytics deletes the bucket at MinIO.
func TestSettingsAreLookedAtFirst(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	var known bool
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusNoContent)
		case known:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<Error><Code>NoSuchConfiguration</Code></Error>")
		default:
			fmt.Fprint(w, "<ListBucketResult><Name>data</Name></ListBucketResult>")
		}
		return true
	})
	for _, o := range operations {
		if o.level != bucketLevel || o.plain == nil || len(o.selects) == 0 || o.method != "DELETE" && o.method != "PUT" {
			continue
		}
		target := "/data?" + o.selects[0]
		if len(o.selects) > 1 {
			target += "&" + o.selects[1] + "=1"
		}
		for _, known = range []bool{false, true} {
			s.mu.Lock()
			s.requests = nil
			s.mu.Unlock()
			got := b.call(t, call{method: o.method, target: target, body: map[string]string{"PUT": "<X/>"}[o.method]})
			if sent := s.last(o.method); (sent != nil) != known || !known && got.status != 501 {
				t.Errorf("%s, known %v: %d %s, sent %v", o.name, known, got.status, got.body, sent != nil)
			}
		}
	}
}

// Every object in a scope has the version id null, which clients may name.
func TestNullVersionInAScope(t *testing.T) {
	overWays(t, func(t *testing.T, b *bench) {
		put := func() { b.call(t, call{method: "PUT", target: "/data/cas/k", body: "x"}) }
		put()
		batch := func(id string) call {
			doc := "<Delete><Object><Key>cas/k</Key><VersionId>" + id + "</VersionId></Object></Delete>"
			sum := md5.Sum([]byte(doc))
			return call{method: "POST", target: "/data?delete", body: doc, header: map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(sum[:])}}
		}
		source := func(id string) call {
			return call{method: "PUT", target: "/data/cas/copy", header: map[string]string{"x-amz-copy-source": "/data/cas/k?versionId=" + id}}
		}
		for _, tc := range []struct {
			call
			status int
		}{
			{call{method: "GET", target: "/data/cas/k?versionId=null"}, 200},
			{call{method: "HEAD", target: "/data/cas/k?versionId=null"}, 200},
			{call{method: "GET", target: "/data/cas/k?tagging&versionId=null"}, 200},
			{call{method: "GET", target: "/data/cas/k?versionId=v1"}, 404},
			{call{method: "GET", target: "/data/cas/k?versionId="}, 404},
			{source("null"), 200},
			{source("v1"), 404},
			{call{method: "DELETE", target: "/data/cas/k?versionId=v1"}, 404},
			{call{method: "DELETE", target: "/data/cas/k?versionId=null"}, 204},
			{call{method: "GET", target: "/data/cas/k"}, 404},
		} {
			if got := b.call(t, tc.call); got.status != tc.status {
				t.Errorf("%s %s %v: %d %s", tc.method, tc.target, tc.header, got.status, got.body)
			}
		}
		put()
		if got := b.call(t, batch("v1")); !strings.Contains(got.body, "NoSuchVersion") {
			t.Error(got.body)
		}
		if got := b.call(t, batch("null")); !strings.Contains(got.body, "<Deleted><Key>cas/k</Key><VersionId>null</VersionId>") {
			t.Error(got.body)
		}
	})
}

func TestTagsHaveTheCharactersOfS3(t *testing.T) {
	overWays(t, func(t *testing.T, b *bench) {
		b.call(t, call{method: "PUT", target: "/data/cas/k", body: "x"})
		for value, status := range map[string]int{"a b+-=._:/@ü日9": 200, "a&amp;b": 400, "&lt;": 400, "a*": 400, "a\tb": 400} {
			got := b.call(t, call{method: "PUT", target: "/data/cas/k?tagging", body: "<Tagging><TagSet><Tag><Key>k</Key><Value>" + value + "</Value></Tag></TagSet></Tagging>"})
			if got.status != status || status == 400 && got.code() != "InvalidTag" {
				t.Errorf("%q: %d %s", value, got.status, got.body)
			}
		}
	})
}

// A list says that there is more only where there is: a page behind the last name
// would be empty.
func TestListsEndWithTheirLastName(t *testing.T) {
	t.Parallel()
	b := newSealed(t)
	for _, k := range []string{"cas/a", "cas/dir/1", "cas/dir/2", "cas/dir/3", "cas/dir/4"} {
		b.call(t, call{method: "PUT", target: "/data/" + k, body: "x"})
	}
	for query, more := range map[string]bool{
		"prefix=cas/&delimiter=/&max-keys=1": true, "prefix=cas/&delimiter=/&max-keys=2": false,
		"prefix=cas/&max-keys=5": false, "prefix=cas/&max-keys=4": true, "max-keys=5": false, "max-keys=4": true,
		"delimiter=/&max-keys=1": false, "prefix=cas/dir/&delimiter=/&max-keys=4": false,
	} {
		for _, v := range []string{"", "list-type=2&"} {
			got := b.call(t, call{method: "GET", target: "/data?" + v + query})
			if got.status != 200 || strings.Contains(got.body, "<IsTruncated>true") != more {
				t.Errorf("%s%s: %d %s", v, query, got.status, got.body)
			}
		}
	}
}

// A plain object's checksum algorithms are told as the store tells them.
func TestListsTellChecksumAlgorithms(t *testing.T) {
	t.Parallel()
	x := newXML()
	defer x.free()
	e := guarded.Entry{ChecksumAlgorithms: []string{"CRC64NVME"}}
	e.ChecksumType = "FULL_OBJECT"
	x.entry("Contents", &e, &listQuery{v2: true})
	if got := x.buf.String(); !strings.Contains(got, "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>") {
		t.Error(got)
	}
}

// What is wrong with a part copy's range is its argument (S3 API reference,
// UploadPartCopy): a 416 would be about an answer.
func TestRangeOfAPartCopy(t *testing.T) {
	t.Parallel()
	b := newSealed(t)
	b.call(t, call{method: "PUT", target: "/data/cas/k", body: "12345678"})
	up := b.call(t, call{method: "POST", target: "/data/cas/up?uploads"})
	_, id, _ := strings.Cut(up.body, "<UploadId>")
	id, _, _ = strings.Cut(id, "</UploadId>")
	for r, status := range map[string]int{"bytes=0-7": 200, "bytes=4-100": 400, "bytes=8-9": 400} {
		got := b.call(t, call{method: "PUT", target: "/data/cas/up?partNumber=1&uploadId=" + id, header: map[string]string{"x-amz-copy-source": "/data/cas/k", "x-amz-copy-source-range": r}})
		if got.status != status || status == 400 && got.code() != "InvalidArgument" {
			t.Errorf("%s: %d %s", r, got.status, got.body)
		}
	}
}

func TestContentEncodingIsAsSent(t *testing.T) {
	overWays(t, func(t *testing.T, b *bench) {
		for sent, want := range map[string]string{"gzip, deflate": "gzip, deflate", "aws-chunked, gzip": "gzip", "aws-chunked": ""} {
			b.call(t, call{method: "PUT", target: "/data/cas/k", body: "x", header: map[string]string{"Content-Encoding": sent}})
			if got := b.call(t, call{method: "HEAD", target: "/data/cas/k"}); got.header.Get("Content-Encoding") != want {
				t.Errorf("%q came back as %q", sent, got.header.Get("Content-Encoding"))
			}
		}
	})
}
