package e2e

import (
	"fmt"
	"net/url"
	"strings"
)

// diffCase is a program that no sweep makes.
type diffCase struct {
	of, name string
	// bucket is a name of diffBuckets, main where empty.
	bucket string
	// columns are those that it is compared in, all where empty.
	columns []diffColumn
	run     func(p *diffRun)

	prefix string
}

// get, head and list are requests of cases.
func (p *diffRun) get(key string, h ...string) Answer {
	return p.send(Request{Method: "GET", Key: p.key(key), Header: headers(h...)})
}

func (p *diffRun) head(key string, h ...string) Answer {
	return p.send(Request{Method: "HEAD", Key: p.key(key), Header: headers(h...)})
}

func (p *diffRun) list(pairs ...string) Answer {
	return p.send(Request{Method: "GET", Query: values(pairs...)})
}

func (p *diffRun) batch(body string, h ...string) Answer {
	all := headers(append([]string{"Content-Md5", md5Of(body)}, h...)...)
	return p.send(Request{Method: "POST", Query: values("delete", ""), Body: body, Header: all})
}

// pages follows a list to its end: next takes the parameters of the next page
// from an answer, or nothing.
func (p *diffRun) pages(first []string, next func(Answer) []string) {
	for q, n := first, 0; q != nil && n < 20; n++ {
		q = next(p.list(q...))
	}
}

const diffPast, diffFuture = "Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT"

var diffCases = []*diffCase{
	{of: "GetObject", name: "conditions together", run: func(p *diffRun) {
		p.put("k")
		same, other := `"`+diffETag+`"`, `"other"`
		// RFC 9110, section 13.2.2: If-Match before If-Unmodified-Since, which it
		// replaces; then If-None-Match before If-Modified-Since, likewise.
		for _, match := range []string{"", same, other} {
			for _, unmodified := range []string{"", diffPast, diffFuture} {
				for _, none := range []string{"", same, other} {
					for _, modified := range []string{"", diffPast} {
						h := []string{}
						for _, pair := range [][2]string{{"If-Match", match}, {"If-Unmodified-Since", unmodified}, {"If-None-Match", none}, {"If-Modified-Since", modified}} {
							if pair[1] != "" {
								h = append(h, pair[0], pair[1])
							}
						}
						if len(h) > 2 {
							p.get("k", h...)
							p.head("k", h...)
						}
					}
				}
			}
		}
		p.get("k", "If-Match", `"x", `+same)
		p.get("k", "If-None-Match", `"x", `+same)
		p.get("k", "If-None-Match", `W/`+same)
		p.get("k", "If-Match", same, "Range", "bytes=0-2")
		p.get("k", "If-None-Match", same, "Range", "bytes=100-")
		p.get("k", "If-Range", same, "Range", "bytes=0-2")
		p.get("k", "If-Range", other, "Range", "bytes=0-2")
	}},
	{of: "GetObject", name: "empty object", run: func(p *diffRun) {
		p.prepare(Request{Method: "PUT", Key: p.key("k")})
		p.get("k")
		p.head("k")
		for _, r := range []string{"bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=1-"} {
			p.get("k", "Range", r)
			p.head("k", "Range", r)
		}
	}},
	{of: "GetObject", name: "headers that were stored", run: func(p *diffRun) {
		p.prepare(Request{Method: "PUT", Key: p.key("k"), Body: diffBody, Header: headers(
			"Content-Type", "text/x-test", "Cache-Control", "max-age=7, private", "Content-Disposition", `attachment; filename="a b.txt"`,
			"Content-Encoding", "gzip", "Content-Language", "de, en", "Expires", "never",
			"X-Amz-Meta-Plain", "one", "X-Amz-Meta-Many-Words", "a, b,c ;d=\"e\"", "X-Amz-Meta-Empty", "", "X-Amz-Tagging", "a=1&b=2")})
		p.get("k")
		p.head("k")
		p.get("k", "Range", "bytes=1-2")
		p.send(Request{Method: "GET", Key: p.key("k"), Query: values("response-content-type", "text/x-asked", "response-expires", "0", "response-content-encoding", "identity")})
		p.label = "GetObject/content encodings"
		for i, encoding := range []string{"aws-chunked", "aws-chunked,gzip", "gzip,aws-chunked", "gzip, deflate"} {
			k := fmt.Sprint("e", i)
			p.prepare(Request{Method: "PUT", Key: p.key(k), Body: diffBody, Header: headers("Content-Encoding", encoding)})
			p.head(k)
		}
		p.label = "GetObject/no content type"
		p.put("plain")
		p.head("plain")
		p.put("named.html")
		p.head("named.html")
		p.label = "GetObject/metadata that is not ASCII"
		p.send(Request{Method: "PUT", Key: p.key("ü"), Body: diffBody, Header: headers("X-Amz-Meta-U", "größe")})
		p.head("ü")
		p.send(Request{Method: "PUT", Key: p.key("b"), Body: diffBody, Header: headers("X-Amz-Meta-B", "=?UTF-8?B?Z3LDtsOfZQ==?=")})
		p.head("b")
	}},
	{of: "PutObject", name: "metadata of 2 KB", run: func(p *diffRun) {
		for _, n := range []int{2047, 2048, 2049} {
			// The name counts without its x-amz-meta-.
			p.send(Request{Method: "PUT", Key: p.key("k"), Body: diffBody, Header: headers("X-Amz-Meta-A", strings.Repeat("v", n-1))})
		}
	}},
	{of: "PutObject", name: "conditions", run: func(p *diffRun) {
		for _, h := range [][]string{{"If-None-Match", "*"}, {"If-None-Match", "*"}, {"If-Match", `"` + diffETag + `"`}, {"If-Match", `"other"`}} {
			p.send(Request{Method: "PUT", Key: p.key("k"), Body: diffBody, Header: headers(h...)})
		}
		p.send(Request{Method: "PUT", Key: p.key("none"), Body: diffBody, Header: headers("If-Match", `"`+diffETag+`"`)})
	}},
	{of: "PutObject", name: "presigned", run: func(p *diffRun) {
		p.send(Request{Method: "PUT", Key: p.key("k"), Body: diffBody, Presigned: true, Header: headers("Content-Type", "text/x-test")})
		p.send(Request{Method: "GET", Key: p.key("k"), Presigned: true})
		p.send(Request{Method: "GET", Key: p.key("k"), Presigned: true, Query: values("response-content-type", "text/x-asked")})
		p.send(Request{Method: "HEAD", Key: p.key("k"), Presigned: true})
	}},
	{of: "GetObject", name: "refused", run: func(p *diffRun) {
		p.put("k")
		p.send(Request{Method: "GET", Key: p.key("k"), AccessKey: "nobody", SecretKey: "nobody"})
		p.send(Request{Method: "HEAD", Key: p.key("k"), AccessKey: "nobody", SecretKey: "nobody"})
		p.send(Request{Method: "GET", Key: p.key("k"), AccessKey: p.target.via.cluster.AccessKey, SecretKey: "wrong"})
	}},
	{of: "DeleteObject", name: "what is absent", run: func(p *diffRun) {
		p.send(Request{Method: "DELETE", Key: p.key("absent")})
		p.put("k")
		p.send(Request{Method: "DELETE", Key: p.key("k")})
		p.send(Request{Method: "DELETE", Key: p.key("k")})
		p.get("k")
		p.head("k")
	}},
	{of: "GetObjectAttributes", name: "an object of two parts", run: func(p *diffRun) {
		big := strings.Repeat("0123456789abcdef", 5<<16)
		a := p.prepare(Request{Method: "POST", Key: p.key("k"), Query: values("uploads", "")})
		id := between(a.Body, "<UploadId>", "</UploadId>")
		var etags []string
		for i, body := range []string{big, diffBody} {
			a := p.prepare(Request{Method: "PUT", Key: p.key("k"), Query: values("partNumber", fmt.Sprint(i+1), "uploadId", id), Body: body})
			etags = append(etags, a.Header.Get("Etag"))
		}
		parts := func(pairs ...string) {
			p.send(Request{Method: "GET", Key: p.key("k"), Query: values(append([]string{"uploadId", id}, pairs...)...)})
		}
		parts("max-parts", "1")
		parts("max-parts", "1", "part-number-marker", "1")
		parts("part-number-marker", "2")
		p.send(Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: partsXML(etags[1], etags[0])})
		p.send(Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: partsXML()})
		p.send(Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: "<nonsense"})
		p.send(Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: partsXML(etags...)})
		p.send(Request{Method: "GET", Key: p.key("k"), Query: values("uploadId", id)})
		p.head("k")
		p.get("k", "Range", fmt.Sprintf("bytes=%d-%d", len(big)-2, len(big)+1))
		all := "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"
		for _, h := range [][]string{{}, {"X-Amz-Max-Parts", "1"}, {"X-Amz-Max-Parts", "1", "X-Amz-Part-Number-Marker", "1"}} {
			p.send(Request{Method: "GET", Key: p.key("k"), Query: values("attributes", ""), Header: headers(append([]string{"X-Amz-Object-Attributes", all}, h...)...)})
		}
		p.send(Request{Method: "GET", Key: p.key("k"), Query: values("attributes", "")})
	}},
	{of: "CompleteMultipartUpload", name: "twice", run: func(p *diffRun) {
		id, etag := p.upload("k", "Content-Type", "text/x-test", "X-Amz-Meta-A", "1", "X-Amz-Tagging", "a=1")
		for range 2 {
			p.send(Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: partsXML(etag)})
		}
		p.head("k")
		p.label = "CompleteMultipartUpload/a part that is none"
		id, _ = p.upload("k2")
		p.send(Request{Method: "POST", Key: p.key("k2"), Query: values("uploadId", id), Body: partsXML(`"` + diffETag[1:] + `0"`)})
		p.label = "CompleteMultipartUpload/no such upload"
		p.send(Request{Method: "POST", Key: p.key("k2"), Query: values("uploadId", "none"), Body: partsXML(etag)})
		p.send(Request{Method: "PUT", Key: p.key("k2"), Query: values("uploadId", "none", "partNumber", "1"), Body: diffBody})
		p.send(Request{Method: "DELETE", Key: p.key("k2"), Query: values("uploadId", "none")})
		p.send(Request{Method: "GET", Key: p.key("k2"), Query: values("uploadId", "none")})
		p.label = "CompleteMultipartUpload/part numbers"
		for _, n := range []string{"0", "10001", "x", "-1"} {
			p.send(Request{Method: "PUT", Key: p.key("k2"), Query: values("uploadId", id, "partNumber", n), Body: diffBody})
		}
	}},
	{of: "CopyObject", name: "directives", run: func(p *diffRun) {
		p.put("from", "Content-Type", "text/x-from", "Cache-Control", "max-age=7", "X-Amz-Meta-A", "1", "X-Amz-Tagging", "t=1", "Expires", diffFuture)
		copies := func(to string, h ...string) {
			p.send(Request{Method: "PUT", Key: p.key(to), Header: headers(append([]string{"X-Amz-Copy-Source", p.source("from")}, h...)...)})
		}
		look := func(key string) {
			p.head(key)
			p.send(Request{Method: "GET", Key: p.key(key), Query: values("tagging", "")})
		}
		copies("a")
		look("a")
		copies("b", "X-Amz-Metadata-Directive", "REPLACE", "Content-Type", "text/x-to", "X-Amz-Meta-B", "2")
		look("b")
		copies("c", "X-Amz-Tagging-Directive", "REPLACE", "X-Amz-Tagging", "u=2")
		look("c")
		copies("d", "X-Amz-Metadata-Directive", "COPY", "X-Amz-Meta-B", "2", "Content-Type", "text/x-to")
		look("d")
		copies("from")
		copies("from", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-C", "3")
		look("from")
		p.label = "CopyObject/sources"
		for _, source := range []string{"", "nothing", "/", p.name("main") + "/", "/" + p.source("from"), p.source("absent"), p.source("from") + "?versionId=null", "arn:aws:s3:::x/y"} {
			p.send(Request{Method: "PUT", Key: p.key("e"), Header: headers("X-Amz-Copy-Source", source)})
		}
		p.label = "CopyObject/source conditions together"
		same, other := `"`+diffETag+`"`, `"other"`
		for _, h := range [][]string{
			{"X-Amz-Copy-Source-If-Match", same, "X-Amz-Copy-Source-If-Unmodified-Since", diffPast},
			{"X-Amz-Copy-Source-If-Match", other, "X-Amz-Copy-Source-If-Unmodified-Since", diffFuture},
			{"X-Amz-Copy-Source-If-None-Match", same, "X-Amz-Copy-Source-If-Modified-Since", diffPast},
			{"X-Amz-Copy-Source-If-None-Match", other, "X-Amz-Copy-Source-If-Modified-Since", diffPast},
		} {
			copies("f", h...)
		}
	}},
	{of: "DeleteObjects", name: "documents", run: func(p *diffRun) {
		p.put("a")
		p.put("b")
		p.batch(deleteXML(true, p.key("a"), p.key("absent")))
		p.batch(deleteXML(false, p.key("b"), p.key("b")))
		p.batch("<Delete><Object><Key>" + p.key("none") + "</Key></Object></Delete>")
		p.label = "DeleteObjects/malformed"
		for _, doc := range []string{"<Delete", "<Delete></Delete>", "<Other/>", "", "<Delete><Object></Object></Delete>"} {
			p.batch(doc)
		}
		p.label = "DeleteObjects/no digest"
		p.send(Request{Method: "POST", Query: values("delete", ""), Body: deleteXML(false, p.key("a"))})
		p.label = "DeleteObjects/1000 and 1001 keys"
		for _, n := range []int{1000, 1001} {
			var keys []string
			for i := range n {
				keys = append(keys, p.key(fmt.Sprintf("n%04d", i)))
			}
			p.batch(deleteXML(true, keys...))
		}
		p.label = "DeleteObjects/versionId=null"
		p.put("v")
		p.batch("<Delete><Object><Key>" + p.key("v") + "</Key><VersionId>null</VersionId></Object></Delete>")
	}},
	{of: "ListObjectsV2", name: "pages", bucket: "lists", run: func(p *diffRun) {
		for _, k := range []string{"a0", "a/b", "a/c/d", "a/c/e", "ab", "b--c--d", "b--c--e", "b-x", "dir/x", "sp ace+plus", "ü/1", "ü/2", "z"} {
			p.prepare(Request{Method: "PUT", Key: k, Body: diffBody})
		}
		p.prepare(Request{Method: "PUT", Key: "dir/"})
		v2, v1 := []string{"list-type", "2"}, []string{}
		with := func(base []string, more ...string) []string { return append(append([]string{}, base...), more...) }
		for _, base := range [][]string{v2, v1} {
			p.label = map[bool]string{true: "ListObjectsV2", false: "ListObjects"}[len(base) > 0] + "/pages"
			p.list(base...)
			p.list(with(base, "max-keys", "0")...)
			p.list(with(base, "max-keys", "0", "delimiter", "/", "prefix", "a")...)
			p.list(with(base, "max-keys", "5000")...)
			for _, prefix := range []string{"a", "a/", "a/b", "a/b/", "dir/", "b--", "ü", "nothing", "/"} {
				p.list(with(base, "prefix", prefix)...)
				p.list(with(base, "prefix", prefix, "delimiter", "/")...)
			}
			for _, delimiter := range []string{"/", "--", "c", "ü", "/c/", ""} {
				p.list(with(base, "delimiter", delimiter)...)
				p.list(with(base, "delimiter", delimiter, "encoding-type", "url")...)
			}
			p.list(with(base, "encoding-type", "url", "prefix", "sp ")...)
		}
		p.label = "ListObjectsV2/pages"
		p.list(with(v2, "fetch-owner", "true", "prefix", "a/b")...)
		for _, after := range []string{"a", "a/", "a/c", "a/c/d", "zz", "ü/1", "sp ace"} {
			p.list(with(v2, "start-after", after)...)
			p.list(with(v2, "start-after", after, "delimiter", "/")...)
			p.list(with(v2, "start-after", after, "delimiter", "/", "encoding-type", "url", "max-keys", "2")...)
		}
		for i, q := range [][]string{with(v2, "max-keys", "3"), with(v2, "max-keys", "2", "delimiter", "/"), with(v2, "max-keys", "1", "prefix", "a/", "delimiter", "/"), with(v2, "max-keys", "4", "encoding-type", "url")} {
			p.label = fmt.Sprint("ListObjectsV2/page by page ", i+1)
			p.pages(q, func(a Answer) []string {
				token := between(a.Body, "<NextContinuationToken>", "</NextContinuationToken>")
				if token == "" {
					return nil
				}
				return with(q, "continuation-token", token)
			})
		}
		p.label = "ListObjects/pages"
		for _, marker := range []string{"a", "a/", "a/c", "zz"} {
			p.list("marker", marker)
			p.list("marker", marker, "delimiter", "/", "max-keys", "2")
		}
		for i, q := range [][]string{{"max-keys", "3"}, {"max-keys", "2", "delimiter", "/"}, {"max-keys", "4", "encoding-type", "url"}} {
			p.label = fmt.Sprint("ListObjects/page by page ", i+1)
			p.pages(q, func(a Answer) []string {
				marker := between(a.Body, "<NextMarker>", "</NextMarker>")
				if marker == "" && strings.Contains(a.Body, "<IsTruncated>true") {
					keys := strings.Split(a.Body, "<Key>")
					marker, _, _ = strings.Cut(keys[len(keys)-1], "<")
				}
				if marker == "" {
					return nil
				}
				if strings.Contains(a.Body, "<EncodingType>url") {
					marker, _ = url.QueryUnescape(marker)
				}
				return with(q, "marker", marker)
			})
		}
	}},
	{of: "ListMultipartUploads", name: "pages", bucket: "uploads", run: func(p *diffRun) {
		for _, k := range []string{"u/a", "u/b/1", "u/b/2", "u/c", "u/sp ace+ü"} {
			p.prepare(Request{Method: "POST", Key: k, Query: values("uploads", "")})
		}
		uploads := func(pairs ...string) Answer { return p.list(append([]string{"uploads", ""}, pairs...)...) }
		uploads("prefix", "u/")
		uploads("prefix", "u/", "delimiter", "/")
		uploads("prefix", "u/", "delimiter", "b")
		uploads("prefix", "u/", "encoding-type", "url")
		uploads("prefix", "u/a")
		uploads("prefix", "u/b/", "delimiter", "/")
		for _, marker := range []string{"u/", "u/a", "u/b/", "u/b/1", "u/bb", "u/zz"} {
			uploads("prefix", "u/", "key-marker", marker)
			uploads("prefix", "u/", "key-marker", marker, "delimiter", "/")
		}
		for i, q := range [][]string{{"prefix", "u/", "max-uploads", "2"}, {"prefix", "u/", "max-uploads", "1", "delimiter", "/"}, {"prefix", "u/", "max-uploads", "2", "encoding-type", "url"}} {
			p.label = fmt.Sprint("ListMultipartUploads/page by page ", i+1)
			p.pages(append([]string{"uploads", ""}, q...), func(a Answer) []string {
				if !strings.Contains(a.Body, "<IsTruncated>true") {
					return nil
				}
				key, id := between(a.Body, "<NextKeyMarker>", "</NextKeyMarker>"), between(a.Body, "<NextUploadIdMarker>", "</NextUploadIdMarker>")
				if strings.Contains(a.Body, "<EncodingType>url") {
					key, _ = url.QueryUnescape(key)
				}
				return append([]string{"uploads", "", "key-marker", key, "upload-id-marker", id}, q...)
			})
		}
	}},
	{of: "ListParts", name: "pages", run: func(p *diffRun) {
		a := p.prepare(Request{Method: "POST", Key: p.key("k"), Query: values("uploads", "")})
		id := between(a.Body, "<UploadId>", "</UploadId>")
		for _, n := range []string{"1", "3", "4", "10000", "7"} {
			p.prepare(Request{Method: "PUT", Key: p.key("k"), Query: values("partNumber", n, "uploadId", id), Body: diffBody + n})
		}
		p.prepare(Request{Method: "PUT", Key: p.key("k"), Query: values("partNumber", "3", "uploadId", id), Body: "another"})
		parts := func(pairs ...string) Answer {
			return p.send(Request{Method: "GET", Key: p.key("k"), Query: values(append([]string{"uploadId", id}, pairs...)...)})
		}
		parts()
		for _, marker := range []string{"2", "3", "4", "9999", "10000", "10001"} {
			parts("part-number-marker", marker)
		}
		marker := "0"
		for range 5 {
			a := parts("max-parts", "2", "part-number-marker", marker)
			if !strings.Contains(a.Body, "<IsTruncated>true") {
				break
			}
			marker = between(a.Body, "<NextPartNumberMarker>", "</NextPartNumberMarker>")
		}
	}},
	{of: "PutObject", name: "storage class", run: func(p *diffRun) {
		class := func(c string) map[string]string { return headers("X-Amz-Storage-Class", c) }
		// Each answer under the operation that gives it, whose rows are about it.
		as := func(of string) { p.label = of + "/storage class" }
		look := func(key string) {
			as("GetObject")
			p.head(key)
			p.get(key)
			as("GetObjectAttributes")
			p.send(Request{Method: "GET", Key: p.key(key), Query: values("attributes", ""), Header: headers("X-Amz-Object-Attributes", "StorageClass,ObjectSize")})
			as("ListObjectsV2")
			p.list("list-type", "2", "prefix", p.key(key))
			as("ListObjectVersions")
			p.list("versions", "", "prefix", p.key(key))
		}
		for _, c := range []string{"STANDARD", "REDUCED_REDUNDANCY"} {
			as("PutObject")
			p.send(Request{Method: "PUT", Key: p.key(c), Body: diffBody, Header: class(c)})
			look(c)
		}
		from := headers("X-Amz-Copy-Source", p.source("REDUCED_REDUNDANCY"), "X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
		as("CopyObject")
		p.send(Request{Method: "PUT", Key: p.key("same"), Header: from})
		look("same")
		as("CopyObject")
		delete(from, "X-Amz-Storage-Class")
		p.send(Request{Method: "PUT", Key: p.key("copy"), Header: from})
		p.label = "CopyObject/storage class of the source"
		p.head("copy")
		as("CreateMultipartUpload")
		a := p.send(Request{Method: "POST", Key: p.key("parts"), Query: values("uploads", ""), Header: class("REDUCED_REDUNDANCY")})
		id := between(a.Body, "<UploadId>", "</UploadId>")
		a = p.prepare(Request{Method: "PUT", Key: p.key("parts"), Query: values("partNumber", "1", "uploadId", id), Body: diffBody})
		as("ListParts")
		p.send(Request{Method: "GET", Key: p.key("parts"), Query: values("uploadId", id)})
		as("ListMultipartUploads")
		p.list("uploads", "", "prefix", p.key("parts"))
		as("CompleteMultipartUpload")
		p.send(Request{Method: "POST", Key: p.key("parts"), Query: values("uploadId", id), Body: partsXML(a.Header.Get("Etag"))})
		look("parts")
	}},
	{of: "ListBuckets", name: "pages", run: func(p *diffRun) {
		for _, prefix := range []string{p.name("lists"), p.name("main")[:len("diff-12345678-d-")], "nothing"} {
			p.send(Request{Method: "GET", Bucket: "/", Query: values("prefix", prefix)})
			p.send(Request{Method: "GET", Bucket: "/", Query: values("prefix", prefix, "max-buckets", "2")})
		}
		p.send(Request{Method: "GET", Bucket: "/", Query: values("continuation-token", p.name("uploads"), "prefix", p.name("main")[:len("diff-12345678-d-")])})
	}},
	{of: "CreateBucket", name: "again", run: func(p *diffRun) {
		b := p.another()
		p.send(Request{Method: "PUT", Bucket: b})
		p.send(Request{Method: "PUT", Bucket: b})
		p.send(Request{Method: "HEAD", Bucket: b})
		p.send(Request{Method: "PUT", Bucket: b, Body: "<CreateBucketConfiguration" + xmlns + "><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"})
		p.send(Request{Method: "PUT", Bucket: b, Body: "<nonsense"})
		p.send(Request{Method: "PUT", Bucket: "Bad_Name_"})
		p.send(Request{Method: "PUT", Bucket: "ab"})
		p.prepare(Request{Method: "PUT", Bucket: b, Key: "k", Body: diffBody})
		p.send(Request{Method: "DELETE", Bucket: b})
		p.prepare(Request{Method: "DELETE", Bucket: b, Key: "k"})
		p.send(Request{Method: "DELETE", Bucket: b})
		p.send(Request{Method: "DELETE", Bucket: b})
		p.send(Request{Method: "HEAD", Bucket: b})
	}},
	{of: "DeleteObject", name: "versions", bucket: "versions", columns: []diffColumn{diffPlain}, run: func(p *diffRun) {
		p.put("k")
		p.send(Request{Method: "PUT", Query: values("versioning", ""), Body: "<VersioningConfiguration" + xmlns + "><Status>Enabled</Status></VersioningConfiguration>"})
		p.send(Request{Method: "PUT", Key: p.key("k"), Body: "second"})
		p.get("k")
		p.head("k")
		p.send(Request{Method: "GET", Key: p.key("k"), Query: values("versionId", "null")})
		p.send(Request{Method: "DELETE", Key: p.key("k")})
		p.label = "GetObject/a delete marker"
		p.get("k")
		p.head("k")
		marker := p.list("versions", "", "prefix", p.prefix)
		id := between(between(marker.Body, "<DeleteMarker>", "</DeleteMarker>"), "<VersionId>", "</VersionId>")
		if id != "" {
			p.send(Request{Method: "GET", Key: p.key("k"), Query: values("versionId", id)})
			p.send(Request{Method: "HEAD", Key: p.key("k"), Query: values("versionId", id)})
			p.label = "DeleteObject/versions"
			p.send(Request{Method: "DELETE", Key: p.key("k"), Query: values("versionId", id)})
		}
		p.label = "DeleteObject/versions"
		p.send(Request{Method: "DELETE", Key: p.key("k"), Query: values("versionId", "null")})
		p.send(Request{Method: "PUT", Key: p.key("k"), Body: "third"})
		p.batch(deleteXML(false, p.key("k"), p.key("never")))
		p.send(Request{Method: "PUT", Key: p.key("copy"), Header: headers("X-Amz-Copy-Source", p.source("absent"))})
	}},
	{of: "PutObjectTagging", name: "bounds", run: func(p *diffRun) {
		p.put("k")
		tag := func(pairs ...string) string {
			var b strings.Builder
			b.WriteString("<Tagging><TagSet>")
			for i := 0; i < len(pairs); i += 2 {
				fmt.Fprintf(&b, "<Tag><Key>%s</Key><Value>%s</Value></Tag>", pairs[i], pairs[i+1])
			}
			return b.String() + "</TagSet></Tagging>"
		}
		var eleven []string
		for i := range 11 {
			eleven = append(eleven, fmt.Sprint("k", i), "v")
		}
		for _, doc := range []string{
			tag(), tag("a", ""), tag("", "v"), tag("a", "1", "a", "2"), tag("a", "&amp;"), tag(eleven[:20]...), tag(eleven...),
			tag(strings.Repeat("k", 128), strings.Repeat("v", 256)), tag(strings.Repeat("k", 129), "v"), tag("k", strings.Repeat("v", 257)), "<Tagging", "<Other/>",
		} {
			p.send(Request{Method: "PUT", Key: p.key("k"), Query: values("tagging", ""), Body: doc, Header: headers("Content-Md5", md5Of(doc))})
		}
		p.send(Request{Method: "GET", Key: p.key("k"), Query: values("tagging", "")})
		p.head("k")
	}},
}
