package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// attack is one way in which a body can be wrong, and S3's words for it; code ""
// is a body whose sender may get no answer.
type attack struct {
	name   string
	shot   shot
	status int
	code   string
}

// attacks are all of them, for PutObject and UploadPart.
func attacks() []attack {
	var all []attack
	add := func(status int, code, name string, s shot) {
		all = append(all, attack{name: s.form + ": " + name, shot: s, status: status, code: code})
	}
	set := func(pairs ...string) func(h http.Header) {
		return func(h http.Header) {
			for pair := range slices.Chunk(pairs, 2) {
				if pair[1] == "" {
					h.Del(pair[0])
				} else {
					h.Set(pair[0], pair[1])
				}
			}
		}
	}
	other := []byte("other bytes than these")
	thirds := []string{"first", "middle", "last"}
	algorithms := []string{"crc32", "crc32c", "crc64nvme", "sha1", "sha256"}

	// Flipped bits. An unsigned payload without a digest is the one body that
	// nothing can be told of.
	for third, where := range thirds {
		plain, chunks := flipped(third)
		add(400, "XAmzContentSHA256Mismatch", "a bit of the "+where+" third", shot{form: literal, bytes: plain})
		add(403, "SignatureDoesNotMatch", "a bit of the "+where+" chunk", shot{form: signedChunks, frames: chunks})
		add(403, "SignatureDoesNotMatch", "a bit of the "+where+" chunk", shot{form: signedTrailer, algorithm: "crc32", frames: chunks})
		for _, a := range algorithms {
			add(400, "BadDigest", "a bit of the "+where+" third, "+a, shot{form: unsigned, algorithm: a, bytes: plain})
			add(400, "BadDigest", "a bit of the "+where+" chunk, "+a, shot{form: unsignedTrailer, algorithm: a, frames: chunks})
		}
	}

	// Digests in headers.
	for _, form := range []string{literal, unsigned, signedChunks} {
		add(400, "BadDigest", "another Content-MD5", shot{form: form, head: set("Content-Md5", contentMD5(string(other)))})
		add(400, "InvalidDigest", "no Content-MD5", shot{form: form, head: set("Content-Md5", "abc")})
		add(400, "InvalidDigest", "Content-MD5 in hexadecimal", shot{form: form, head: set("Content-Md5", hexMD5(string(other)))})
		for _, a := range algorithms {
			add(400, "BadDigest", "another "+a, shot{form: form, head: set("X-Amz-Checksum-"+a, sumOf(a, other))})
			add(400, "InvalidRequest", "no "+a, shot{form: form, head: set("X-Amz-Checksum-"+a, "AAAAA")})
		}
		add(400, "InvalidRequest", "two checksums", shot{form: form, algorithm: "crc32", head: func(h http.Header) { h.Set("X-Amz-Checksum-Sha1", sumOf("sha1", other)) }})
		add(400, "InvalidRequest", "another algorithm than announced", shot{form: form, algorithm: "crc32", head: set("X-Amz-Sdk-Checksum-Algorithm", "SHA256")})
		add(400, "InvalidRequest", "an algorithm and no checksum", shot{form: form, head: set("X-Amz-Sdk-Checksum-Algorithm", "CRC32")})
		add(400, "InvalidRequest", "a trailer that the form has not", shot{form: form, head: set("X-Amz-Trailer", "x-amz-checksum-crc32")})
	}
	add(400, "XAmzContentSHA256Mismatch", "the hash of other bytes", shot{form: literal, head: set("X-Amz-Content-Sha256", hexSHA256(other))})
	add(400, "InvalidArgument", "no hash", shot{form: literal, head: set("X-Amz-Content-Sha256", "STREAMING-ANYTHING")})
	add(501, "NotImplemented", "ECDSA", shot{form: literal, head: set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")})

	// Trailers.
	for _, form := range []string{signedTrailer, unsignedTrailer} {
		for _, a := range algorithms {
			replaced := func(value string) func([]string) []string {
				return func([]string) []string { return []string{"x-amz-checksum-" + a + ":" + value} }
			}
			add(400, "BadDigest", "another "+a, shot{form: form, algorithm: a, trailers: replaced(sumOf(a, other))})
			add(400, "InvalidRequest", "no "+a, shot{form: form, algorithm: a, trailers: replaced("AAAAA")})
		}
		crc := "x-amz-checksum-crc32:" + sumOf("crc32", other)
		more := func(line string) func([]string) []string {
			return func(l []string) []string { return append(l, line) }
		}
		add(400, "MalformedTrailerError", "the trailer is missing", shot{form: form, algorithm: "crc32", trailers: func([]string) []string { return nil }})
		add(400, "MalformedTrailerError", "another trailer than announced", shot{form: form, algorithm: "crc32c", trailers: func([]string) []string { return []string{crc} }})
		add(400, "MalformedTrailerError", "one trailer more than announced", shot{form: form, algorithm: "sha1", trailers: more(crc)})
		add(400, "MalformedTrailerError", "the trailer twice", shot{form: form, algorithm: "crc32", trailers: func(l []string) []string { return append(l, l...) }})
		add(400, "MalformedTrailerError", "a trailer that is none", shot{form: form, algorithm: "crc32", trailers: more("nonsense")})
		add(400, "MalformedTrailerError", "a trailer that nobody announced", shot{form: form, algorithm: "crc32", head: set("X-Amz-Trailer", "")})
		add(400, "InvalidRequest", "two trailers announced", shot{form: form, algorithm: "crc32", head: set("X-Amz-Trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")})
		add(501, "NotImplemented", "a trailer that is no checksum", shot{form: form, algorithm: "crc32", head: set("X-Amz-Trailer", "x-amz-meta-colour")})
		add(400, "InvalidRequest", "a checksum in header and trailer", shot{form: form, algorithm: "crc32", head: set("X-Amz-Checksum-Sha1", sumOf("sha1", other))})
		add(400, "BadDigest", "another Content-MD5", shot{form: form, algorithm: "crc32", head: set("Content-Md5", contentMD5(string(other)))})
	}
	add(400, "MalformedTrailerError", "the trailer's signature is missing", shot{form: signedTrailer, algorithm: "crc32", late: func(text string) string {
		line, _, _ := strings.Cut(text, "x-amz-trailer-signature")
		return line + "\r\n"
	}})
	add(403, "SignatureDoesNotMatch", "the trailer's signature is another", shot{form: signedTrailer, algorithm: "crc32", signature: func(string) string { return strings.Repeat("a", 64) }})
	add(403, "SignatureDoesNotMatch", "the trailer was changed after its signature", shot{form: signedTrailer, algorithm: "crc32", late: func(text string) string {
		_, rest, _ := strings.Cut(text, "\r\n")
		return "x-amz-checksum-crc32:" + sumOf("crc32", other) + "\r\n" + rest
	}})

	// Lengths.
	for _, form := range []string{signedChunks, signedTrailer, unsignedTrailer} {
		decoded := func(by int) func(h http.Header) {
			return func(h http.Header) {
				n, _ := strconv.Atoi(h.Get("X-Amz-Decoded-Content-Length"))
				h.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(n+by))
			}
		}
		algorithm := ""
		if form != signedChunks {
			algorithm = "crc32c"
		}
		add(400, "IncompleteBody", "one byte less than promised", shot{form: form, algorithm: algorithm, head: decoded(1)})
		add(400, "IncompleteBody", "one byte more than promised", shot{form: form, algorithm: algorithm, head: decoded(-1)})
		add(400, "IncompleteBody", "more promised than framed", shot{form: form, algorithm: algorithm, head: decoded(1 << 40)})
		add(400, "InvalidArgument", "no number of bytes", shot{form: form, algorithm: algorithm, head: set("X-Amz-Decoded-Content-Length", "-1")})
		if form != unsignedTrailer {
			// There it is not needed.
			add(411, "MissingContentLength", "no decoded length", shot{form: form, algorithm: algorithm, head: set("X-Amz-Decoded-Content-Length", "")})
		}
		add(400, "InvalidRequest", "a chunk that is longer than it says", shot{form: form, algorithm: algorithm, frames: func(f []frame) []frame { f[1].size--; return f }})
	}

	// The order of chunks. Where they are signed their signatures say it, else the
	// checksum of the whole.
	orders := map[string]func(f []frame) []frame{
		"two chunks in the other order": func(f []frame) []frame { f[0], f[1] = f[1], f[0]; return f },
		"one chunk again in another's place": func(f []frame) []frame {
			f[1] = f[0]
			return f
		},
	}
	for name, change := range orders {
		add(403, "SignatureDoesNotMatch", name, shot{form: signedChunks, frames: change})
		add(403, "SignatureDoesNotMatch", name, shot{form: signedTrailer, algorithm: "crc32", frames: change})
		add(400, "BadDigest", name, shot{form: unsignedTrailer, algorithm: "crc32", frames: change})
	}
	for _, form := range []string{signedChunks, signedTrailer} {
		algorithm := ""
		if form == signedTrailer {
			algorithm = "sha256"
		}
		forged := func(at int, signature string) func(f []frame) []frame {
			return func(f []frame) []frame { f[at].signature = signature; return f }
		}
		for at, which := range []string{"first", "middle", "last", "final"} {
			add(403, "SignatureDoesNotMatch", "a forged signature of the "+which+" chunk", shot{form: form, algorithm: algorithm, frames: forged(at, strings.Repeat("0", 64))})
		}
		add(400, "InvalidRequest", "a chunk without a signature", shot{form: form, algorithm: algorithm, frames: forged(1, "")})
		add(403, "SignatureDoesNotMatch", "a chunk is missing", shot{form: form, algorithm: algorithm,
			head:   func(h http.Header) { shorten(h, "X-Amz-Decoded-Content-Length") },
			frames: func(f []frame) []frame { return append(f[:1:1], f[2:]...) }})
	}

	// Ends before the end: announced, closed, or with the sender gone. Where only
	// the connection's end says so nobody is left to be answered.
	for _, form := range []string{literal, unsigned, signedChunks, signedTrailer, unsignedTrailer} {
		s := shot{form: form}
		if strings.HasSuffix(form, "TRAILER") {
			s.algorithm = "crc32"
		}
		cuts := map[string]func(m marks) int{
			"before the body":         func(marks) int { return 0 },
			"in the middle":           func(m marks) int { return m.inChunk },
			"one byte before its end": func(m marks) int { return m.end - 1 },
		}
		chunked := strings.HasPrefix(form, "STREAMING-")
		if chunked {
			cuts["between two chunks"] = func(m marks) int { return m.betweenChunks }
			cuts["before the last chunk"] = func(m marks) int { return m.lastHeader }
			cuts["before the trailer"] = func(m marks) int { return m.trailer }
			cuts["before the last line"] = func(m marks) int { return m.end - 2 }
		}
		for where, cut := range cuts {
			s.cut, s.end = cut, closed
			add(0, "", "closed "+where, s)
			s.end = reset
			add(0, "", "gone "+where, s)
			if chunked {
				s.end = announced
				add(400, "IncompleteBody", "ends "+where, s)
			}
		}
	}
	return all
}

// shorten takes the bytes of a middle chunk off a length.
func shorten(h http.Header, name string) {
	n, _ := strconv.Atoi(h.Get(name))
	h.Set(name, strconv.Itoa(n-(n+chunkParts-1)/chunkParts))
}

// integrityStores are the clusters that bodies are attacked on.
var integrityStores = map[string]func(t *testing.T) *Cluster{
	"MinIO": func(t *testing.T) *Cluster {
		return NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}})
	},
	"versitygw": func(t *testing.T) *Cluster {
		return NewCluster(t, Options{MinIO: storetest.Versitygw(t), Guards: []Guard{{Prefix: "jobs/"}}})
	},
	"embedded": func(t *testing.T) *Cluster { return NewDev(t, Options{}) },
}

// place is where bodies are written.
type place struct {
	*Proxy
	bucket, prefix string
	header         map[string]string
}

func integrityPlaces(c *Cluster) map[string]place {
	p := c.Proxies[0]
	return map[string]place{
		"unguarded": {Proxy: p, bucket: c.NewBucket()},
		"sealed":    {Proxy: p, bucket: c.Bucket, prefix: "jobs/", header: tokenHeader(c.Take("jobs/", "integrity"))},
	}
}

func (p place) request(method, key string, query url.Values) Request {
	return Request{Method: method, Bucket: p.bucket, Key: p.prefix + key, Query: query, Header: p.header}
}

// keys lists what the place shows.
func (p place) keys(t *testing.T) []string {
	t.Helper()
	var page struct {
		Contents    []struct{ Key string }
		IsTruncated bool
	}
	p.Send(t, Request{Method: "GET", Bucket: p.bucket, Query: url.Values{"list-type": {"2"}, "prefix": {p.prefix}}}).Want(t, 200).XML(t, &page)
	require.False(t, page.IsTruncated)
	var keys []string
	for _, o := range page.Contents {
		keys = append(keys, strings.TrimPrefix(o.Key, p.prefix))
	}
	return keys
}

// No attack on a body leaves anything: an object keeps its old bytes, a new key
// stays away, a part too, and the answer says what was wrong.
func TestIntegrityAttacks(t *testing.T) {
	t.Parallel()
	for name, start := range integrityStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			for where, p := range integrityPlaces(c) {
				c.Run(t, where, func(t *testing.T) { attackPlace(t, p) })
			}
			// What was acknowledged: the old object.
			c.Proxies[0].wantNothingLeft(t, c, 1)
		})
	}
}

func attackPlace(t *testing.T, p place) {
	old := []byte("the old bytes")
	content := func(size int) []byte {
		var b bytes.Buffer
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.Bytes()[:size]
	}
	// One is held in memory before it goes to the store, the other is streamed.
	small, large := content(24<<10), content(100<<10)
	if p.prefix != "" {
		large = content(1<<20 + 4<<10)
	}
	p.Send(t, Request{Method: "PUT", Bucket: p.bucket, Key: p.prefix + "old", Header: p.header, Body: string(old)}).Want(t, 200)

	var upload struct {
		UploadID string `xml:"UploadId"`
	}
	p.Send(t, p.request("POST", "upload", url.Values{"uploads": {""}})).Want(t, 200).XML(t, &upload)
	part := func(number int) url.Values {
		return url.Values{"uploadId": {upload.UploadID}, "partNumber": {strconv.Itoa(number)}}
	}
	put := p.request("PUT", "upload", part(1))
	put.Body = string(old)
	p.Send(t, put).Want(t, 200)

	type target struct {
		name, key string
		query     url.Values
		content   []byte
	}
	targets := []target{
		{"small, over an object", "old", nil, small}, {"large, over an object", "old", nil, large},
		{"small", "new", nil, small}, {"large", "new", nil, large},
		{"small part, over a part", "upload", part(1), small}, {"large part", "upload", part(2), large},
	}
	unchanged := func(t *testing.T) {
		t.Helper()
		head := p.Send(t, p.request("HEAD", "old", nil)).Want(t, 200)
		if etag := head.Header.Get("Etag"); etag != etagOf(old) {
			t.Errorf("the old object is %s", etag)
		}
	}
	for i, a := range attacks() {
		// Those that break off meet what is streamed into the store; of the others,
		// of which there are many of a kind, each meets two.
		chosen := []target{targets[2*i%len(targets)], targets[(2*i+1)%len(targets)]}
		switch {
		case a.code == "":
			chosen = []target{targets[1], targets[5]}
		case a.shot.cut != nil:
			chosen = []target{targets[i%len(targets)]}
		}
		for _, target := range chosen {
			s := a.shot
			s.method, s.bucket, s.key, s.query, s.content, s.header = "PUT", p.bucket, p.prefix+target.key, target.query, target.content, p.header
			answer, err := p.fire(t, s)
			switch {
			case a.code == "" && err != nil:
				if !errors.Is(err, errNoAnswer) {
					t.Fatalf("%s, %s: %v", a.name, target.name, err)
				}
			case err != nil:
				t.Fatalf("%s, %s: %v", a.name, target.name, err)
			case a.code == "" && answer.Status/100 != 2:
			case answer.Status != a.status || answer.Failure().Code != a.code || answer.Failure().Message == "":
				t.Errorf("%s, %s: want %d %s; %s", a.name, target.name, a.status, a.code, answer)
			}
		}
		unchanged(t)
		if t.Failed() {
			t.Fatalf("after %s", a.name)
		}
	}
	// Those whose sender was gone may have been at work still.
	time.Sleep(500 * time.Millisecond)
	unchanged(t)
	assert.Equal(t, string(old), p.Send(t, p.request("GET", "old", nil)).Want(t, 200).Body)
	assert.Equal(t, []string{"old"}, p.keys(t))
	var parts struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	p.Send(t, p.request("GET", "upload", url.Values{"uploadId": {upload.UploadID}})).Want(t, 200).XML(t, &parts)
	if assert.Len(t, parts.Part, 1, "parts") {
		assert.Equal(t, etagOf(old), parts.Part[0].ETag)
	}
	p.Send(t, p.request("DELETE", "upload", url.Values{"uploadId": {upload.UploadID}})).Want(t, 204)
}

// wantNothingLeft fails the test if the proxy still holds something: connections
// of clients, bodies on disk, and at the store bytes that never were an object.
func (p *Proxy) wantNothingLeft(t *testing.T, c *Cluster, acknowledged int) {
	t.Helper()
	if c.Store != nil {
		client := c.Store.Client(t)
		physical := 0
		for o := range client.ListObjects(t.Context(), c.Bucket, minio.ListObjectsOptions{Prefix: ".s3fence/", Recursive: true}) {
			require.NoError(t, o.Err)
			physical++
		}
		assert.Equal(t, acknowledged, physical, "physical keys")
		for u := range client.ListIncompleteUploads(t.Context(), c.Bucket, "", true) {
			require.NoError(t, u.Err)
			t.Errorf("the upload %s is left", u.Key)
		}
	}
	p.transport().CloseIdleConnections()
	spooled := func() (n int) {
		pids, err := p.process.Pids()
		require.NoError(t, err)
		for _, pid := range pids {
			fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
			for _, fd := range fds {
				if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "s3fence-body") {
					n++
				}
			}
		}
		return n
	}
	_, port, _ := strings.Cut(p.addr, ":")
	number, _ := strconv.Atoi(port)
	// Columns of /proc/net/tcp: number, local address, remote address, state; 01 is ESTABLISHED.
	clients := func() (n int) {
		table, _ := os.ReadFile("/proc/net/tcp")
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) && f[3] == "01" {
				n++
			}
		}
		return n
	}
	assert.Eventually(t, func() bool { return spooled() == 0 && clients() == 0 }, 10*time.Second, 20*time.Millisecond,
		"%d bodies on disk, %d connections of clients", spooled(), clients())
}
