package s3api

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/corpus"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=3-1", "bytes=1-2,4-5", "bytes=9223372036854775807-", "bytes=-9223372036854775807", "x"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		r, ok := parseRange(s, size)
		if r != nil && (!ok || r.Offset < 0 || r.Length < 1 || r.Offset > size-r.Length) {
			t.Fatalf("%q of %d: %+v", s, size, r)
		}
	})
}

func FuzzContinuation(f *testing.F) {
	q := &guarded.ListQuery{Bucket: "data", Prefix: "a/", Delimiter: "/"}
	f.Add(continuation("a/b", q))
	f.Add("AQ")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		from, err := readContinuation(token, q)
		if err != nil {
			return
		}
		if again := continuation(from, q); again != strings.TrimRight(token, "\r\n") && !strings.ContainsAny(token, "\r\n") {
			// The last character of base64 may have spare bits; the name is the same.
			if back, err := readContinuation(again, q); err != nil || back != from {
				t.Fatalf("%q reads as %q, which is written %q", token, from, again)
			}
		}
		other := *q
		other.Prefix = "b/"
		if _, err := readContinuation(token, &other); err == nil {
			t.Fatalf("%q counts in another list", token)
		}
	})
}

// A list of the store, whatever it holds, never shows what is ours.
func FuzzTranslate(f *testing.F) {
	f.Add(`<R><Name>x</Name><EncodingType>url</EncodingType><Version><Key>.s3fence%2Fa</Key></Version><Version><Key>k</Key></Version></R>`)
	f.Add(`<R><Bucket>real</Bucket><Location>http://store/real/k</Location></R>`)
	f.Add(`<R><CommonPrefixes><Prefix>.s3fence/</Prefix></CommonPrefixes></R>`)
	f.Add(`<R><Bucket/></R>`)
	for _, m := range corpus.Answers(f) {
		f.Add(string(m.Body()))
	}
	f.Add(`<?xml version="1.0"?><!-- c --><R a="b"><Upload><Key>&#46;s3fence/x</Key></Upload></R>`)
	f.Fuzz(func(t *testing.T, doc string) {
		rq := &request{s: &Server{}, r: httptest.NewRequest(http.MethodGet, "/", nil), op: &operation{level: bucketLevel}, bucket: "data", signed: &sigv4.Signed{}}
		out, err := rq.translate([]byte(doc))
		if err != nil {
			return
		}
		var list struct {
			Versions []struct{ Key string } `xml:"Version"`
		}
		d := xml.NewDecoder(strings.NewReader(string(out)))
		d.Strict = false
		if d.Decode(&list) != nil {
			return
		}
		for _, v := range list.Versions {
			if fence.IsReserved(v.Key) {
				t.Fatalf("%q shows %q", doc, v.Key)
			}
		}
	})
}

func FuzzCopySource(f *testing.F) {
	f.Add("data/k")
	f.Add("/data/a%20b?versionId=3")
	f.Add("data/%2e%2e/k")
	f.Add("arn:aws:s3:::data/k")
	f.Fuzz(func(t *testing.T, header string) {
		rq := &request{
			s: &Server{}, r: &http.Request{Header: http.Header{"X-Amz-Copy-Source": {header}}}, list: &fence.Guards{},
			who: &auth.Principal{Credential: &auth.Credential{Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}}},
		}
		src, err := rq.readSource()
		if err != nil {
			return
		}
		if !bucketName(src.Bucket) || src.Key == "" || fence.IsReserved(src.Key) {
			t.Fatalf("%q is %+v", header, src)
		}
		again := &request{s: rq.s, list: rq.list, who: rq.who, r: &http.Request{Header: http.Header{"X-Amz-Copy-Source": {escapePath(src.Bucket + "/" + src.Key)}}}}
		if back, err := again.readSource(); err != nil || back.Ref != src.Ref {
			t.Fatalf("%q is %+v, written and read again %+v, %v", header, src, back, err)
		}
	})
}

// FuzzDocuments: foreign XML neither panics nor passes its bounds.
func FuzzDocuments(f *testing.F) {
	f.Add(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`)
	f.Add(`<Delete><Object><Key>k</Key></Object></Delete>`)
	for _, m := range corpus.Seeds(f) {
		if m.Whole {
			f.Add(string(m.Body()))
		}
	}
	f.Fuzz(func(t *testing.T, doc string) {
		if parts, err := parseParts([]byte(doc)); err == nil && (len(parts) < 1 || len(parts) > maxPart) {
			t.Fatalf("%d parts", len(parts))
		}
		var d deleteXML
		_ = decode([]byte(doc), &d)
		var x xmlWriter
		x.escape(doc)
		dec := xml.NewDecoder(strings.NewReader("<a>" + x.buf.String() + "</a>"))
		for {
			tok, err := dec.Token()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("%q is written as %q: %v", doc, x.buf.String(), err)
			}
			if start, ok := tok.(xml.StartElement); ok && start.Name.Local != "a" {
				t.Fatalf("%q broke out", doc)
			}
		}
	})
}

// FuzzHeaders: what headers say is read as it can be written again, or refused with
// a code, and never as something else.
func FuzzHeaders(f *testing.F) {
	f.Add("a=b&c=d%20e", `"x"`, "*", "2026-01-02T15:04:05Z", "5")
	f.Add("a=b&a=c&=&%zz", `W/"x", "y"`, `""`, "Fri, 02 Jan 2026 15:04:05 GMT", "-1")
	f.Add("a+b=%ff", ",", "x", "9999-12-31T23:59:59Z", "9223372036854775808")
	f.Add(strings.Repeat("a&", 20), "", "*", "", "+5")
	f.Add("", "", "", "0001-01-01T00:00:00Z", "")
	f.Add("", "", "", "Mon, 01 Jan 0001 00:00:00 GMT", "")
	f.Fuzz(func(t *testing.T, tags, match, none, at, size string) {
		list, err := parseTags(tags)
		if _, ok := errors.AsType[*apiError](err); err != nil && !ok {
			t.Fatalf("%q: %v", tags, err)
		}
		if err == nil {
			again, err := parseTags(encodeTags(list))
			if err != nil || !slices.Equal(again, list) || len(list) > maxTags {
				t.Fatalf("%q is %v, written and read again %v, %v", tags, list, again, err)
			}
		}
		h := http.Header{"If-Match": {match}, "If-None-Match": {none}, "X-Amz-If-Match-Last-Modified-Time": {at}, "X-Amz-If-Match-Size": {size}}
		rq := &request{s: &Server{}, r: &http.Request{Header: h}}
		c, err := rq.deleteConditions()
		if err != nil {
			if _, ok := errors.AsType[*apiError](err); !ok {
				t.Fatalf("%v: %v", h, err)
			}
			return
		}
		if c.IfMatch != match || c.IfNoneMatch != none || none != "" && none != "*" {
			t.Fatalf("%v is %+v", h, c)
		}
		if (c.IfSize == nil) != (size == "") || c.IfSize != nil && *c.IfSize < 0 {
			t.Fatalf("a size of %q is %v", size, c.IfSize)
		}
		// A condition that was sent counts: with none of it met, nothing is deleted.
		info := &object.Info{ETag: "0123456789abcdef0123456789abcdef", Size: -1, Modified: time.Unix(1_800_000_000, 0)}
		if c.CheckWrite(info) == nil && (size != "" || at != "" && !c.IfLastModified.Equal(info.Modified)) {
			t.Fatalf("%v is met by %+v", h, info)
		}
	})
}
