package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/faultproxy"
	"github.com/s3fence/s3fence/internal/storetest"
)

// marked makes a body with a mark in its middle, by which a bit of it is flipped.
func marked(mark string, size int) []byte {
	line := []byte("the quick brown fox jumps over the lazy dog, again and again...\n")
	b := bytes.Repeat(line, size/len(line)+1)[:size]
	copy(b[size/2:], mark)
	return b
}

// A bit that is flipped between the proxy and the store. The store refuses the
// bytes where it has their digest, and the object stays what it was; where it has
// none the client is told that other bytes stand there.
func TestIntegrityOnTheWayToTheStore(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB) *storetest.Server{"MinIO": storetest.MinIO, "versitygw": storetest.Versitygw} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{MinIO: server(t), StoreFaults: true, Guards: []Guard{{Prefix: "jobs/"}},
				Config: map[string]any{"limits": map[string]any{"spool_bytes": 1 << 20}}})
			for where, p := range integrityPlaces(c) {
				c.Run(t, where, func(t *testing.T) { flipToStore(t, p, where == "sealed") })
			}
		})
	}
}

func flipToStore(t *testing.T, p place, sealed bool) {
	md5Of := func(content []byte) map[string]string {
		return with(p.header, "Content-Md5", contentMD5(string(content)))
	}
	refused := func(a Answer) { a.WantCode(t, 503, "ServiceUnavailable") }
	// Bytes under a physical key that is not committed are nobody's.
	late := func(a Answer) {
		f := a.WantCode(t, 504, "OutcomeUnknown")
		assert.Contains(t, f.Message, "other bytes")
	}
	if sealed {
		late = refused
	}
	const small, spooled, large = 24 << 10, 300 << 10, 1300 << 10
	mark, n := "", 0
	for _, tt := range []struct {
		name      string
		form      string
		algorithm string
		md5       bool
		size      int
		want      func(Answer)
	}{
		{"held in memory", literal, "", false, small, refused},
		{"held in memory", unsigned, "", false, small, refused},
		{"held in memory", signedChunks, "", false, small, refused},
		{"held in memory", unsignedTrailer, "sha1", false, small, refused},
		{"held on disk for its trailer", unsignedTrailer, "crc32c", false, spooled, refused},
		{"held on disk for its trailer", signedTrailer, "crc64nvme", false, spooled, refused},
		{"streamed with an MD5", unsigned, "", true, large, refused},
		{"streamed with a checksum", literal, "crc32", false, large, refused},
		{"streamed with a checksum", unsigned, "crc32c", false, large, refused},
		{"streamed with a checksum", signedChunks, "crc64nvme", false, large, refused},
		{"streamed with a checksum", unsigned, "sha1", false, large, refused},
		{"streamed with a checksum", unsigned, "sha256", false, large, refused},
		{"streamed with nothing for the store", literal, "", false, large, late},
		{"streamed with nothing for the store", unsigned, "", false, large, late},
		{"streamed with nothing for the store", signedChunks, "", false, large, late},
		{"streamed, its trailer too late", unsignedTrailer, "crc32", false, large, late},
	} {
		n++
		mark = fmt.Sprintf("mark-%03d-%s", n, map[bool]string{true: "s", false: "u"}[sealed])
		t.Run(fmt.Sprintf("%s, %s %s", tt.name, tt.form, tt.algorithm), func(t *testing.T) {
			key := fmt.Sprintf("key-%d", n)
			put := p.request("PUT", key, nil)
			put.Body = "old"
			p.Send(t, put).Want(t, 200)
			content := marked(mark, tt.size)
			s := shot{method: "PUT", bucket: p.bucket, key: p.prefix + key, form: tt.form, algorithm: tt.algorithm, content: content, header: p.header}
			if tt.md5 {
				s.header = md5Of(content)
			}
			p.Store.Flip(faultproxy.Requests, mark)
			answer, err := p.fire(t, s)
			require.NoError(t, err)
			require.True(t, p.Store.Flipped(faultproxy.Requests), "no bit was flipped; %s", answer)
			tt.want(answer)
			if answer.Status == 503 {
				assert.Equal(t, "old", p.Send(t, p.request("GET", key, nil)).Want(t, 200).Body)
			}
			// What was told to be sent again is sent again.
			answer, err = p.fire(t, s)
			require.NoError(t, err)
			answer.Want(t, 200)
			assert.Equal(t, string(content), p.Send(t, p.request("GET", key, nil)).Want(t, 200).Body)
		})
	}
	t.Run("parts", func(t *testing.T) {
		var upload struct {
			UploadID string `xml:"UploadId"`
		}
		p.Send(t, p.request("POST", "upload", url.Values{"uploads": {""}})).Want(t, 200).XML(t, &upload)
		for number, size := range []int{small, spooled, large} {
			mark := fmt.Sprintf("part-%d", number)
			content := marked(mark, size)
			header := md5Of(content)
			if size == small || sealed && size == spooled {
				header = p.header // it gets an MD5 of ours
			}
			s := shot{method: "PUT", bucket: p.bucket, key: p.prefix + "upload", form: unsigned, content: content, header: header,
				query: url.Values{"uploadId": {upload.UploadID}, "partNumber": {fmt.Sprint(number + 1)}}}
			p.Store.Flip(faultproxy.Requests, mark)
			answer, err := p.fire(t, s)
			require.NoError(t, err)
			require.True(t, p.Store.Flipped(faultproxy.Requests))
			refused(answer)
		}
		var parts struct{ Part []struct{ PartNumber int } }
		p.Send(t, p.request("GET", "upload", url.Values{"uploadId": {upload.UploadID}})).Want(t, 200).XML(t, &parts)
		assert.Empty(t, parts.Part)
		p.Send(t, p.request("DELETE", "upload", url.Values{"uploadId": {upload.UploadID}})).Want(t, 204)
	})
	if sealed {
		return // nothing of these documents goes to the store
	}
	t.Run("batch delete", func(t *testing.T) {
		put := p.request("PUT", "victim-a", nil)
		p.Send(t, put).Want(t, 200)
		p.Send(t, p.request("PUT", "victim-`", nil)).Want(t, 200)
		content := "<Delete><Object><Key>victim-a</Key></Object></Delete>"
		p.Store.Flip(faultproxy.Requests, "<Key>victim-a")
		answer := p.Send(t, Request{Method: "POST", Bucket: p.bucket, Query: url.Values{"delete": {""}}, Header: map[string]string{"Content-Md5": contentMD5(content)}, Body: content})
		require.True(t, p.Store.Flipped(faultproxy.Requests))
		if p.cluster.Store == storetest.MinIO(t) {
			// It does not look at the MD5 of a batch. The key that it was not told of
			// is told as failed.
			assert.NotContains(t, answer.Want(t, 200).Body, "<Deleted>")
			assert.Contains(t, answer.Body, "<Error><Key>victim-a</Key>")
			return
		}
		answer.WantCode(t, 503, "ServiceUnavailable")
		p.Send(t, p.request("HEAD", "victim-`", nil)).Want(t, 200)
	})
}

// A bit that is flipped between the store and the proxy, or an answer that is cut
// there, never ends in an answer that looks whole, where anything is known to tell
// it by: the length always, and in a sealed scope a checksum of the whole object,
// or in a small one its MD5.
func TestIntegrityOnTheWayFromTheStore(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{StoreFaults: true, Guards: []Guard{{Prefix: "jobs/"}}})
	places := integrityPlaces(c)
	sealed := places["sealed"]
	n := 0
	for _, algorithm := range []string{"", "crc32", "crc32c", "crc64nvme", "sha1", "sha256"} {
		for _, size := range []int{4 << 10, 3 << 20} {
			if algorithm == "" && size > 1<<20 {
				continue // docs/protocol.md: not compared
			}
			n++
			mark := fmt.Sprintf("flip-%d", n)
			s := shot{method: "PUT", bucket: sealed.bucket, key: sealed.prefix + mark, form: unsigned, algorithm: algorithm, content: marked(mark, size), header: sealed.header}
			answer, err := sealed.fire(t, s)
			require.NoError(t, err)
			answer.Want(t, 200)
			sealed.Store.Flip(faultproxy.Answers, mark)
			// On a connection of its own: net/http would ask again.
			got, err := sealed.fire(t, shot{method: "GET", bucket: sealed.bucket, key: s.key, form: unsigned, header: sealed.header})
			require.True(t, sealed.Store.Flipped(faultproxy.Answers))
			if err == nil {
				t.Errorf("%s, %d bytes: a damaged object was answered as a whole: %d bytes, status %d", algorithm, size, len(got.Body), got.Status)
			}
			assert.Equal(t, string(s.content), sealed.Send(t, sealed.request("GET", mark, nil)).Want(t, 200).Body)
		}
	}
	assert.Contains(t, sealed.Log(), "object damaged in the store or on the way from it")

	for where, p := range places {
		content := marked("", 3<<20)
		put := p.request("PUT", "cut", nil)
		put.Body = string(content)
		p.Send(t, put).Want(t, 200)
		for _, after := range []int64{0, 100, 100_000, 3 << 20} {
			p.Store.Hold(faultproxy.Answers, after)
			ended := make(chan error, 1)
			go func() {
				answer, err := p.fire(t, shot{method: "GET", bucket: p.bucket, key: p.prefix + "cut", form: unsigned, header: p.header})
				switch {
				case err != nil || answer.Status != 200, answer.Body == string(content):
					// Before any of the answer came the store is asked once more.
					ended <- nil
				default:
					ended <- fmt.Errorf("an answer of %d bytes", len(answer.Body))
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), fireWait)
			require.NoError(t, p.Store.AwaitHeld(ctx, faultproxy.Answers, 1))
			cancel()
			p.Store.Cut()
			require.NoError(t, p.Store.Pass())
			assert.NoError(t, <-ended, "%s: an answer that was cut after %d bytes", where, after)
		}
	}
}

// A proxy that is killed with half a body sent leaves no half object, on a store
// that takes a connection's end for a body's.
func TestIntegrityOfKilledProxy(t *testing.T) {
	t.Parallel()
	store := storetest.Versitygw(t)
	c := NewCluster(t, Options{MinIO: store})
	p := c.Proxies[0]
	client := store.Client(t)
	p.Put(t, "k", "old").Want(t, 200)
	head, body, m := p.load(t, shot{method: "PUT", bucket: c.Bucket, key: "k", form: unsigned, content: make([]byte, 4<<20)})
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(append([]byte(head), body[:m.inChunk]...))
	require.NoError(t, err)
	// The store gets its half.
	time.Sleep(500 * time.Millisecond)
	p.Kill()
	for range 10 {
		o, err := client.GetObject(t.Context(), c.Bucket, "k", minio.GetObjectOptions{})
		require.NoError(t, err)
		got, err := io.ReadAll(o)
		require.NoError(t, err)
		require.Equal(t, "old", string(got))
		time.Sleep(50 * time.Millisecond)
	}
}
