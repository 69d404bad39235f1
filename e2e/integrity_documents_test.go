package e2e

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// documentAttacks are what can be wrong with a body that says what to do. Flipped
// bits leave it readable: only a digest can tell.
func documentAttacks(checksums bool) []attack {
	plain, chunks := flipped(1)
	all := []attack{
		{"literal, a bit", shot{form: literal, bytes: plain}, 400, "XAmzContentSHA256Mismatch"},
		{"another Content-MD5", shot{form: literal, head: func(h http.Header) { h.Set("Content-Md5", contentMD5("x")) }}, 400, "BadDigest"},
		{"no Content-MD5", shot{form: literal, head: func(h http.Header) { h.Set("Content-Md5", "x") }}, 400, "InvalidDigest"},
		{"signed chunks, a bit", shot{form: signedChunks, frames: chunks}, 403, "SignatureDoesNotMatch"},
		{"trailer, a bit", shot{form: unsignedTrailer, algorithm: "crc64nvme", frames: chunks}, 400, "BadDigest"},
		{"signed trailer, forged", shot{form: signedTrailer, algorithm: "crc32", signature: func(string) string { return strings.Repeat("b", 64) }}, 403, "SignatureDoesNotMatch"},
		{"literal, ends early", shot{form: literal, cut: func(m marks) int { return m.end - 1 }}, 400, "XAmzContentSHA256Mismatch"},
		{"trailer, ends early", shot{form: unsignedTrailer, algorithm: "crc32", cut: func(m marks) int { return m.trailer }}, 400, "IncompleteBody"},
		{"literal, is gone", shot{form: literal, cut: func(m marks) int { return m.inChunk }, end: reset}, 0, ""},
	}
	if checksums {
		for a := range sums {
			all = append(all, attack{"another " + a, shot{form: literal, head: func(h http.Header) { h.Set("X-Amz-Checksum-"+a, sumOf(a, nil)) }}, 400, "BadDigest"},
				attack{"unsigned, a bit, " + a, shot{form: unsigned, algorithm: a, bytes: plain}, 400, "BadDigest"})
		}
	}
	return all
}

// A request whose document was damaged does nothing: it deletes nothing,
// completes nothing, sets nothing, and grants nothing.
func TestIntegrityOfDocuments(t *testing.T) {
	t.Parallel()
	for name, start := range integrityStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			for where, p := range integrityPlaces(c) {
				c.Run(t, where, func(t *testing.T) { attackDocuments(t, p) })
			}
			c.Run(t, "locks", func(t *testing.T) { attackLocks(t, c) })
			// What was acknowledged: the old object, and one that was deleted again.
			c.Proxies[0].wantNothingLeft(t, c, 2)
		})
	}
}

func attackDocuments(t *testing.T, p place) {
	put := p.request("PUT", "old", nil)
	put.Body = "old"
	p.Send(t, put).Want(t, 200)
	var upload struct {
		UploadID string `xml:"UploadId"`
	}
	p.Send(t, p.request("POST", "upload", url.Values{"uploads": {""}})).Want(t, 200).XML(t, &upload)
	id := url.Values{"uploadId": {upload.UploadID}}
	part := p.request("PUT", "upload", url.Values{"uploadId": {upload.UploadID}, "partNumber": {"1"}})
	part.Body = "part"
	p.Send(t, part).Want(t, 200)

	tagging := "<Tagging><TagSet><Tag><Key>colour</Key><Value>red</Value></Tag></TagSet></Tagging>"
	deletion := "<Delete><Object><Key>" + p.prefix + "old</Key></Object></Delete>"
	completion := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etagOf([]byte("part")) + "</ETag></Part></CompleteMultipartUpload>"
	for _, d := range []struct {
		name, method, key string
		query             url.Values
		content           string
		checksums         bool
	}{
		{"PutObjectTagging", "PUT", p.prefix + "old", url.Values{"tagging": {""}}, tagging, true},
		{"DeleteObjects", "POST", "", url.Values{"delete": {""}}, deletion, true},
		{"CompleteMultipartUpload", "POST", p.prefix + "upload", id, completion, false},
	} {
		for _, a := range documentAttacks(d.checksums) {
			s := a.shot
			s.method, s.bucket, s.key, s.query, s.content, s.header = d.method, p.bucket, d.key, d.query, []byte(d.content), p.header
			answer, err := p.fire(t, s)
			if s.end != reset && (err != nil || answer.Status != a.status || answer.Failure().Code != a.code) {
				t.Errorf("%s, %s: want %d %s; %v, %s", d.name, a.name, a.status, a.code, err, answer)
			}
		}
	}
	p.Send(t, Request{Method: "POST", Bucket: p.bucket, Query: url.Values{"delete": {""}}, Header: with(p.header, "Content-Md5", ""), Body: ""}).WantCode(t, 400, "InvalidDigest")

	assert.Equal(t, []string{"old"}, p.keys(t), "nothing was deleted, nothing completed")
	var tags struct {
		TagSet struct{ Tag []struct{ Key string } }
	}
	p.Send(t, p.request("GET", "old", url.Values{"tagging": {""}})).Want(t, 200).XML(t, &tags)
	assert.Empty(t, tags.TagSet.Tag)
	// The same, undamaged, works: the attacks failed for the right reason.
	good := shot{method: "POST", bucket: p.bucket, key: p.prefix + "upload", query: id, content: []byte(completion), header: p.header, form: unsignedTrailer, algorithm: "crc32c"}
	answer, err := p.fire(t, good)
	if assert.NoError(t, err) {
		answer.Want(t, 200)
	}
	assert.Equal(t, []string{"old", "upload"}, p.keys(t))
	good.key, good.query, good.content = "", url.Values{"delete": {""}}, []byte(strings.Replace(deletion, "old", "upload", 1))
	if answer, err = p.fire(t, good); assert.NoError(t, err) {
		answer.Want(t, 200)
	}
	assert.Equal(t, []string{"old"}, p.keys(t))
}

func attackLocks(t *testing.T, c *Cluster) {
	p := c.Proxies[0]
	content := []byte(`{"scope":"` + c.Scope("jobs/") + `","owner":"somebody","reason":"a test","ttl":"60s"}`)
	before := c.Take("jobs/", "integrity")
	plain, chunks := flipped(1)
	for name, s := range map[string]shot{
		"a bit":                   {form: literal, bytes: plain},
		"a bit of a chunk":        {form: signedChunks, frames: chunks},
		"another Content-MD5":     {form: literal, head: func(h http.Header) { h.Set("Content-Md5", contentMD5("x")) }},
		"another checksum":        {form: literal, head: func(h http.Header) { h.Set("X-Amz-Checksum-Crc32", sumOf("crc32", nil)) }},
		"ends early":              {form: literal, cut: func(m marks) int { return m.end - 1 }},
		"a body nobody signed":    {form: unsigned, bytes: bytes.ToUpper},
		"a trailer nobody signed": {form: unsignedTrailer, algorithm: "crc32"},
	} {
		s.method, s.bucket, s.key, s.content = "POST", "-", "v1/locks/take", content
		answer, err := p.fire(t, s)
		if err != nil || answer.Status/100 != 4 || answer.Code() == "" {
			t.Errorf("%s: %v, %s", name, err, answer)
		}
	}
	assert.Equal(t, before+1, c.Take("jobs/", "integrity"), "nothing was granted between")
}
