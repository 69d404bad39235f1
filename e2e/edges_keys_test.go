package e2e

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// direct is the store itself, to be sent the same requests as a proxy. Its bucket
// is one of its own.
func direct(t *testing.T, store *storetest.Server) *Proxy {
	t.Helper()
	return &Proxy{t: t, URL: store.Endpoint, cluster: &Cluster{t: t, AccessKey: store.AccessKey, SecretKey: store.SecretKey, Bucket: store.Bucket(t)}}
}

// oddKeys are names that other programs lose, below a prefix where they are put.
// What is legal everywhere comes first; see alsoPlain for the others.
func oddKeys(below string) []string {
	keys := []string{
		"plus+", "percent%", "%2F", "%252F", "a%2Fb", "%", "%zz", "space in it", " lead", "trail ", "two  spaces", "?", "?versionId=1", "#", "a?b=c&d",
		"&", "&amp;", ";", "a;b=c", "'", "\"", "\\", "a\\b", "<key>", "]]>", "=", ",", ":", "@", "$", "!", "*", "(", ")", "[", "]", "{", "}", "|", "^", "`", "~",
		"caf\u00e9", "cafe\u0301", "日本/語", "\U0001F600", "\uFFFD", "\uFFFE", "\uFFFF", "\u0080\u009f", "\u2028", "\u00a0", "\u202e",
		"\t", "\n", "\r", "\r\n", "\x01", "\x1b[31m", "\x7f", "dir/", "...", "a../b", "..a", ".hidden", "-", "--delete", "~root", "con", "null",
		"s3fence/x", ".s3fencex", "a/.s3fence/b", "X-Fencing-Token", "uploads", "?uploads",
	}
	for i, k := range keys {
		keys[i] = below + k
	}
	return keys
}

// xmlHolds reports whether XML 1.0 can carry a name.
func xmlHolds(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF })
}

// scrutiny is what [oneKey] asks of answers beside the bytes of the object.
type scrutiny int

const (
	// anyWay: nothing; a store answers as it likes.
	anyWay scrutiny = iota
	// legible: every document but a list can be read.
	legible
	// exact: and lists show the very key.
	exact
)

// oneKey does everything to one key of a bucket and tells what became of each step.
func oneKey(t *testing.T, p *Proxy, key string, ask scrutiny) (verdict []string) {
	t.Helper()
	bucket := p.cluster.Bucket
	step := func(name string, r Request) Answer {
		t.Helper()
		r.Bucket = bucket
		a := p.Send(t, r)
		code := ""
		if m := regexp.MustCompile(`<Code>([^<]*)</Code>`).FindStringSubmatch(a.Body); m != nil {
			code = m[1]
		}
		if ask >= legible && strings.HasPrefix(a.Body, "<?xml") && r.Query.Get("list-type") == "" {
			var any struct{ XMLName xml.Name }
			require.NoError(t, xml.Unmarshal([]byte(a.Body), &any), "%s of %q: %s", name, key, a)
		}
		verdict = append(verdict, fmt.Sprintf("%s %d %s", name, a.Status, code))
		return a
	}
	get := func(name, key, want string, r Request) {
		t.Helper()
		r.Method, r.Key = "GET", key
		if a := step(name, r); a.Status == 200 {
			require.Equal(t, want, a.Body, "%s of %q", name, key)
		}
	}
	body := "body of " + key
	if strings.HasSuffix(key, "/") {
		body = "" // posix stores take a directory for no bytes only
	}
	if put := step("put", Request{Method: "PUT", Key: key, Body: body}); put.Status != 200 {
		return verdict
	}
	get("get", key, body, Request{})
	get("presigned", key, body, Request{Presigned: true})
	if a := step("head", Request{Method: "HEAD", Key: key}); a.Status == 200 {
		require.Equal(t, fmt.Sprint(len(body)), a.Header.Get("Content-Length"), "%q", key)
	}
	step("none", Request{Method: "GET", Key: key + "none"})
	for _, encode := range []string{"url", ""} {
		q := url.Values{"list-type": {"2"}, "prefix": {key}, "max-keys": {"2"}}
		written := escape(key)
		if encode != "" {
			q.Set("encoding-type", encode)
		}
		a := step("list "+encode, Request{Method: "GET", Query: q})
		if ask < exact {
			continue
		}
		if encode == "" && !xmlHolds(key) {
			// As S3 does it: XML 1.0 has no such character, and another name in its
			// place would be that of another object.
			require.Regexp(t, `<Key>[^<]*&#x[0-9a-f]+;[^<]*</Key>`, a.Body, "%q", key)
			continue
		}
		if encode == "" {
			written = key
		}
		var l listing
		a.XML(t, &l)
		require.NotEmpty(t, l.Contents, "%q: %s", key, a)
		require.Equal(t, written, l.Contents[0].Key)
	}
	copied := strings.Replace(key, "/", "/copied-", 1)
	if a := step("copy", Request{Method: "PUT", Key: copied, Header: map[string]string{"X-Amz-Copy-Source": escape(bucket + "/" + key)}}); a.Status == 200 {
		get("get copy", copied, body, Request{})
	}
	tags := `<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>`
	tagging := url.Values{"tagging": {""}}
	step("tag", Request{Method: "PUT", Key: key, Query: tagging, Body: tags, Header: map[string]string{"Content-Md5": contentMD5(tags)}})
	if a := step("tags", Request{Method: "GET", Key: key, Query: tagging}); a.Status == 200 {
		require.Contains(t, a.Body, "<Value>v</Value>", "%q", key)
	}
	step("untag", Request{Method: "DELETE", Key: key, Query: tagging})
	create := step("create", Request{Method: "POST", Key: key, Query: url.Values{"uploads": {""}}})
	if id := regexp.MustCompile(`<UploadId>([^<]*)</UploadId>`).FindStringSubmatch(create.Body); id != nil {
		upload := func(more ...string) url.Values {
			q := url.Values{"uploadId": {id[1]}}
			for pair := range slices.Chunk(more, 2) {
				q.Set(pair[0], pair[1])
			}
			return q
		}
		part := step("part", Request{Method: "PUT", Key: key, Query: upload("partNumber", "1"), Body: body})
		step("parts", Request{Method: "GET", Key: key, Query: upload()})
		doc := `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>` + part.Header.Get("Etag") + `</ETag></Part></CompleteMultipartUpload>`
		step("complete", Request{Method: "POST", Key: key, Query: upload(), Body: doc})
		get("get parts", key, body, Request{})
	}
	if xmlHolds(key) {
		var b strings.Builder
		for _, k := range []string{key, copied} {
			b.WriteString("<Object><Key>")
			require.NoError(t, xml.EscapeText(&b, []byte(k)))
			b.WriteString("</Key></Object>")
		}
		doc := "<Delete>" + b.String() + "</Delete>"
		a := step("batch", Request{Method: "POST", Query: url.Values{"delete": {""}}, Body: doc, Header: map[string]string{"Content-Md5": contentMD5(doc)}})
		if ask == exact {
			var out struct {
				Deleted []struct{ Key string }
				Error   []struct{ Key, Code string }
			}
			a.XML(t, &out)
			require.Len(t, out.Deleted, 2, "%q: %s", key, a)
			require.Equal(t, key, out.Deleted[0].Key)
		}
	} else {
		step("delete", Request{Method: "DELETE", Key: key})
		step("delete", Request{Method: "DELETE", Key: copied})
	}
	step("gone", Request{Method: "GET", Key: key})
	return verdict
}

// allFine are the verdicts of a key that nothing is wrong with.
func allFine(key string) []string {
	fine := []string{
		"put 200 ", "get 200 ", "presigned 200 ", "head 200 ", "none 404 NoSuchKey", "list url 200 ", "list  200 ", "copy 200 ", "get copy 200 ",
		"tag 200 ", "tags 200 ", "untag 204 ", "create 200 ", "part 200 ", "parts 200 ", "complete 200 ", "get parts 200 ",
	}
	if xmlHolds(key) {
		return append(fine, "batch 200 ", "gone 404 NoSuchKey")
	}
	return append(fine, "delete 204 ", "delete 204 ", "gone 404 NoSuchKey")
}

// Outside of every guard a key fares as at the store; in a sealed scope, whose
// objects have names of ours at the store, every one that is UTF-8 works.
func TestEdgesKeys(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"PostgreSQL and MinIO": {MinIO: storetest.MinIO(t)},
		"SQLite and versitygw": {MinIO: storetest.Versitygw(t), State: SQLite},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Guards = []Guard{{Prefix: "sealed/", Tokens: "none"}}
			c := NewCluster(t, o)
			p, store := c.Proxies[0], direct(t, c.Store)
			plain := &Proxy{t: t, URL: p.URL, cluster: &Cluster{t: t, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Bucket: c.Store.Bucket(t)}}
			long := strings.Repeat("0123456789abcdef", 64) // 1,024 bytes
			wide := strings.Repeat("日本語", 113)             // 339 runes, 1,017 bytes
			keys := append(oddKeys("k/"),
				// Where a guard is, such names are refused, since stores were seen to take
				// them for others.
				"a//b", "/lead", "//", "a/./b", "a/../b", "./a", "a/..", "k//",
				"k/"+long[:1022], "k/"+long[:1023], "k/"+wide+"12345", "k/"+wide+"123456", ".s3fence-mine")
			for _, key := range keys {
				if strings.HasPrefix(key, "/") && name == "SQLite and versitygw" {
					continue // versitygw answers such paths with a redirect
				}
				want := oneKey(t, store, key, anyWay)
				got := oneKey(t, plain, key, legible)
				assert.Equal(t, want, got, "%q: the store's verdicts and ours", key)
			}
			for _, key := range []string{"k/\xff", "k/\xc3\x28", "k/\xed\xa0\x80", "k/\x00", "k/a\x00b", "\x00"} {
				// No names in S3. MinIO answers SignatureDoesNotMatch for the one kind, as
				// if it were our fault; versitygw has ways of its own.
				for _, method := range []string{"PUT", "GET", "DELETE"} {
					plain.Send(t, Request{Method: method, Bucket: plain.cluster.Bucket, Key: key}).WantCode(t, 400, "InvalidObjectName")
				}
				source := map[string]string{"X-Amz-Copy-Source": escape(plain.cluster.Bucket + "/" + key)}
				plain.Send(t, Request{Method: "PUT", Bucket: plain.cluster.Bucket, Key: "k/copy", Header: source}).WantCode(t, 400, "InvalidObjectName")
				p.Put(t, "sealed/"+key, "x").WantCode(t, 400, "InvalidObjectName")
				p.WantAbsent(t, "sealed/"+key)
			}
			p.Put(t, "sealed/"+long[:1018], "x").WantCode(t, 400, "KeyTooLongError")
			for _, key := range append(oddKeys("sealed/"), "sealed/"+long[:1024-len("sealed/copied-")], "sealed/"+wide[:996]) {
				assert.Equal(t, allFine(key), oneKey(t, p, key, exact), "%q", key)
			}
			for b := range 128 {
				key := "sealed/byte-" + string(rune(b)) + "-"
				if b == 0 {
					continue
				}
				p.Put(t, key, fmt.Sprint(b)).Want(t, 200)
				require.Equal(t, fmt.Sprint(b), p.Get(t, key))
			}
			// Order is that of the bytes, whatever the database's language: byte by byte
			// the 127 names, and then what takes more.
			var order []string
			for b := 1; b < 128; b++ {
				order = append(order, "sealed/byte-"+string(rune(b))+"-")
			}
			for _, name := range []string{"é", "e\u0301", "z", "Z", "\uffff", "\U00010000", "\uff5e", "ß", "ss"} {
				p.Put(t, "sealed/byte-"+name+"-", "x").Want(t, 200)
				order = append(order, "sealed/byte-"+name+"-")
			}
			slices.Sort(order)
			order = slices.Compact(order)
			for _, v1 := range []bool{false, true} {
				var got []string
				for after := ""; ; {
					q := url.Values{"prefix": {"sealed/byte-"}, "encoding-type": {"url"}, "max-keys": {"50"}}
					if v1 {
						q.Set("marker", after)
					} else {
						q.Set("list-type", "2")
						q.Set("start-after", after)
					}
					var l listing
					p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: q}).Want(t, 200).XML(t, &l)
					for _, e := range l.Contents {
						key, err := url.PathUnescape(e.Key)
						require.NoError(t, err)
						got = append(got, key)
					}
					if !l.IsTruncated {
						break
					}
					after = got[len(got)-1]
				}
				assert.Equal(t, order, got)
			}
		})
	}
}

// What XML 1.0 cannot hold in a key keeps no client from reading answers: boto3
// and the SDK for Go, whose parsers refuse the document, get errors and uploads.
func TestEdgesKeysThatXMLCannotHold(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "sealed/", Tokens: "none"}}})
	p := c.Proxies[0]
	ctx := t.Context()
	for _, prefix := range []string{"plain/", "sealed/"} {
		c.Run(t, prefix, func(t *testing.T) {
			p.Python("odd_keys.py", c.Bucket, prefix).Must(t)
			client, key := p.S3(), prefix+"\x1b[0m\x01"
			at := &s3.GetObjectInput{Bucket: &c.Bucket, Key: &key}
			_, err := client.GetObject(ctx, at)
			var none *types.NoSuchKey
			require.ErrorAs(t, err, &none)
			up, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: at.Bucket, Key: at.Key})
			require.NoError(t, err)
			part, err := client.UploadPart(ctx, &s3.UploadPartInput{Bucket: at.Bucket, Key: at.Key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")})
			require.NoError(t, err)
			parts := &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}
			_, err = client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: at.Bucket, Key: at.Key, UploadId: up.UploadId, MultipartUpload: parts})
			require.NoError(t, err)
			// It does not ask for encoding-type by itself, and the document cannot be
			// read, as S3's cannot. Asked for, the names are there.
			_, err = client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: at.Bucket, Prefix: &prefix})
			require.ErrorContains(t, err, "illegal character code U+001B")
			l, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: at.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl})
			require.NoError(t, err)
			require.Len(t, l.Contents, 1)
			listed, err := url.PathUnescape(*l.Contents[0].Key)
			require.NoError(t, err)
			assert.Equal(t, key, listed)
			var names []string
			for o := range p.MinIO(t).ListObjects(ctx, c.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
				require.NoError(t, o.Err)
				names = append(names, o.Key)
			}
			assert.Equal(t, []string{key}, names)
		})
	}
	// Open uploads of such keys are shown, too; to both.
	for _, key := range []string{"plain/\x02", "sealed/\x02"} {
		p.Send(t, Request{Method: "POST", Bucket: c.Bucket, Key: key, Query: url.Values{"uploads": {""}}}).Want(t, 200)
		// MinIO lists the uploads of one key only, under its whole name.
		q := url.Values{"uploads": {""}, "prefix": {key}}
		assert.Contains(t, p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: q}).Want(t, 200).Body, "<Key>"+key[:len(key)-1]+"&#x2;</Key>")
		q.Set("encoding-type", "url")
		assert.Contains(t, p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: q}).Want(t, 200).Body, "<Key>"+escape(key)+"</Key>")
	}
}
