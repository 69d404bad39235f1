package e2e

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// mostMemory bounds the peak of a proxy's resident memory while one client sends
// through it, whatever it sends: twice what was measured.
const mostMemory = 96 << 20

// peakMemory is the most resident memory that the proxy ever had, in bytes
// (VmHWM; proc_pid_status(5)).
func (p *Proxy) peakMemory(t testing.TB) int64 {
	t.Helper()
	pids, err := p.process.Pids()
	require.NoError(t, err)
	require.Len(t, pids, 1)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	require.NoError(t, err)
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, m, "%s", text)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return kib << 10
}

// wantLittleMemory fails the test if the proxy ever took more than the bound.
func (p *Proxy) wantLittleMemory(t testing.TB) {
	t.Helper()
	peak := p.peakMemory(t)
	t.Logf("peak of the proxy's memory: %d MiB", peak>>20)
	assert.LessOrEqual(t, peak, int64(mostMemory))
}

// zeros is a body of a size that nobody keeps.
type zeros struct{ at, size int64 }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(int64(len(p)), z.size-z.at)
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	z.at += n
	return int(n), nil
}

func (z *zeros) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += z.at
	case io.SeekEnd:
		offset += z.size
	}
	z.at = offset
	return offset, nil
}

// putZeros sends a PUT whose body no signature covers, and does not send the body
// before the proxy asks for it.
func (p *Proxy) putZeros(ctx context.Context, key string, size int64, query url.Values) (Answer, *zeros, error) {
	body := &zeros{size: size}
	u := p.URL + "/" + p.cluster.Bucket + "/" + escape(key)
	if query != nil {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u, io.NopCloser(body))
	if err != nil {
		return Answer{}, body, err
	}
	req.ContentLength = size
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	req.Header.Set("Expect", "100-continue")
	credentials := aws.Credentials{AccessKeyID: p.cluster.AccessKey, SecretAccessKey: p.cluster.SecretKey}
	if err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(ctx, credentials, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now()); err != nil {
		return Answer{}, body, err
	}
	transport := p.transport().Clone()
	transport.ExpectContinueTimeout, transport.WriteBufferSize = time.Minute, 256<<10
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Answer{}, body, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text), what: "PUT " + u}, body, err
}

// sizes is where sizes are tried: a store that drops what it is sent, and two
// places before it.
func sizes(t *testing.T, o Options) (*Cluster, *storetest.Discard) {
	t.Helper()
	store, discard := storetest.StartDiscard(t)
	o.MinIO, o.Guards = store, []Guard{{Prefix: "sealed/", Tokens: "none"}}
	return NewCluster(t, o), discard
}

const (
	fiveGiB = 5 << 30
	// fiveGiBOfZeros is the MD5 of 5 GiB of zeros.
	fiveGiBOfZeros = "ec4bcc8776ea04479b786e063a9ace45"
)

// allSizes says that every form of the largest bodies is to be tried, which takes
// minutes (make sizes).
func allSizes() bool { return os.Getenv("S3FENCE_TEST_SIZES") == "all" }

// The largest PUT goes through without being kept anywhere, and one byte more is
// refused before a byte of it is sent.
func TestEdgesFiveGiB(t *testing.T) {
	t.Parallel()
	forms := []struct {
		name string
		tls  bool
		keys []string
		put  func(t *testing.T, p *Proxy, key string) (etag string)
	}{
		{"unsigned", false, []string{"sealed/big"}, func(t *testing.T, p *Proxy, key string) string {
			a, _, err := p.putZeros(t.Context(), key, fiveGiB, nil)
			require.NoError(t, err)
			return a.Want(t, 200).Header.Get("Etag")
		}},
		{"signed chunks", false, []string{"sealed/big", "plain/big"}, func(t *testing.T, p *Proxy, key string) string {
			info, err := p.MinIO(t).PutObject(t.Context(), p.cluster.Bucket, key, &zeros{size: fiveGiB}, fiveGiB, minio.PutObjectOptions{DisableMultipart: true})
			require.NoError(t, err)
			return info.ETag
		}},
		{"unsigned with a trailer, TLS", true, []string{"sealed/big", "plain/big"}, func(t *testing.T, p *Proxy, key string) string {
			out, err := p.S3().PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &p.cluster.Bucket, Key: &key, Body: &zeros{size: fiveGiB}, ContentLength: aws.Int64(fiveGiB), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
			})
			require.NoError(t, err)
			return *out.ETag
		}},
	}
	if !allSizes() {
		forms = forms[:1]
	} else {
		forms[0].keys = append(forms[0].keys, "plain/big")
	}
	for _, form := range forms {
		for _, key := range form.keys {
			c, discard := sizes(t, Options{TLS: form.tls})
			p := c.Proxies[0]
			before, began := discard.Bytes.Load(), time.Now()
			etag := form.put(t, p, key)
			took := time.Since(began)
			t.Logf("%s, %s: %.0f MiB/s", form.name, key, fiveGiB/took.Seconds()/(1<<20))
			assert.Equal(t, int64(fiveGiB), discard.Bytes.Load()-before, "sent once")
			assert.Equal(t, fiveGiBOfZeros, strings.Trim(etag, `"`))
			head := p.Send(t, Request{Method: "HEAD", Bucket: c.Bucket, Key: key}).Want(t, 200)
			assert.Equal(t, strconv.Itoa(fiveGiB), head.Header.Get("Content-Length"))
			p.wantLittleMemory(t)
		}
	}
}

func TestEdgesOneByteTooMany(t *testing.T) {
	t.Parallel()
	c, discard := sizes(t, Options{})
	p := c.Proxies[0]
	a, body, err := p.putZeros(t.Context(), "sealed/more", fiveGiB+1, nil)
	require.NoError(t, err)
	a.WantCode(t, 400, "EntityTooLarge")
	assert.Zero(t, body.at, "sent of the body")
	id := p.createUpload(t, "sealed/more")
	a, body, err = p.putZeros(t.Context(), "sealed/more", fiveGiB+1, url.Values{"partNumber": {"1"}, "uploadId": {id}})
	require.NoError(t, err)
	a.WantCode(t, 400, "EntityTooLarge")
	assert.Zero(t, body.at, "sent of the part")
	// Chunks say so in another header.
	_, err = p.MinIO(t).PutObject(t.Context(), c.Bucket, "sealed/more", &zeros{size: fiveGiB + 1}, fiveGiB+1, minio.PutObjectOptions{DisableMultipart: true})
	assert.ErrorContains(t, err, "exceeds the maximum")
	assert.Zero(t, discard.Bytes.Load(), "the store got nothing")
	// Elsewhere the bound is the store's, and its answer is handed on, from wherever
	// in the body it comes.
	a, _, err = p.putZeros(t.Context(), "plain", fiveGiB+1, nil)
	require.NoError(t, err)
	a.WantCode(t, 400, "EntityTooLarge")
	for _, key := range []string{"sealed/more", "plain"} {
		p.WantAbsent(t, key)
	}
	p.wantLittleMemory(t)
}

func (p *Proxy) createUpload(t testing.TB, key string) string {
	t.Helper()
	var up struct {
		UploadID string `xml:"UploadId"`
	}
	p.Send(t, Request{Method: "POST", Bucket: p.cluster.Bucket, Key: key, Query: url.Values{"uploads": {""}}}).Want(t, 200).XML(t, &up)
	return up.UploadID
}

// completed is the list of parts as clients send it; ETags by number from 1.
func completed(etags []string) string {
	var b strings.Builder
	b.WriteString("<CompleteMultipartUpload>")
	for i, etag := range etags {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	return b.String() + "</CompleteMultipartUpload>"
}

// multipartETag is S3's ETag of an object of parts.
func multipartETag(t testing.TB, etags []string) string {
	t.Helper()
	sum := md5.New()
	for _, etag := range etags {
		digest, err := hex.DecodeString(strings.Trim(etag, `"`))
		require.NoError(t, err)
		sum.Write(digest)
	}
	return `"` + hex.EncodeToString(sum.Sum(nil)) + "-" + strconv.Itoa(len(etags)) + `"`
}

// 10,000 parts, all of 5 MiB but the last, which is one byte. Those of 5 MiB are
// copies, which take no bytes through the proxy.
func TestEdgesTenThousandParts(t *testing.T) {
	t.Parallel()
	const parts = 10_000
	c, _ := sizes(t, Options{})
	p := c.Proxies[0]
	places := []string{"sealed/", "plain/"}
	if !allSizes() {
		places = places[:1]
	}
	for _, place := range places {
		c.Run(t, place, func(t *testing.T) {
			source, key := place+"source", place+"object"
			a, _, err := p.putZeros(t.Context(), source, 5<<20, nil)
			require.NoError(t, err)
			a.Want(t, 200)
			id := p.createUpload(t, key)
			etags := make([]string, parts)
			part := func(n int, r Request) Answer {
				r.Method, r.Bucket, r.Key, r.Query = "PUT", c.Bucket, key, url.Values{"partNumber": {strconv.Itoa(n)}, "uploadId": {id}}
				return p.Send(t, r)
			}
			copied := Request{Header: map[string]string{"X-Amz-Copy-Source": escape(c.Bucket + "/" + source)}}
			began := time.Now()
			var next atomic.Int64
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for {
						n := int(next.Add(1))
						if n >= parts {
							return
						}
						a := part(n, copied)
						var out struct{ ETag string }
						if a.Status != 200 || xml.Unmarshal([]byte(a.Body), &out) != nil {
							t.Errorf("part %d: %s", n, a)
							return
						}
						etags[n-1] = out.ETag
					}
				})
			}
			all.Wait()
			require.False(t, t.Failed())
			etags[parts-1] = part(parts, Request{Body: "z"}).Want(t, 200).Header.Get("Etag")
			t.Logf("parts in %v", time.Since(began).Round(time.Millisecond))
			part(parts+1, Request{Body: "z"}).WantCode(t, 400, "InvalidArgument")
			part(0, Request{Body: "z"}).WantCode(t, 400, "InvalidArgument")

			listed := 0
			for marker := 0; ; {
				var l struct {
					IsTruncated          bool
					NextPartNumberMarker int
					Part                 []struct {
						PartNumber int
						Size       int64
					}
				}
				p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: key, Query: url.Values{"uploadId": {id}, "part-number-marker": {strconv.Itoa(marker)}}}).Want(t, 200).XML(t, &l)
				for _, one := range l.Part {
					listed++
					require.Equal(t, listed, one.PartNumber)
				}
				if !l.IsTruncated {
					break
				}
				marker = l.NextPartNumberMarker
			}
			assert.Equal(t, parts, listed)

			complete := Request{Method: "POST", Bucket: c.Bucket, Key: key, Query: url.Values{"uploadId": {id}}}
			complete.Body = completed(append(etags[:parts:parts], etags[0]))
			assert.Equal(t, 400, p.Send(t, complete).Status, "10,001 parts")
			complete.Body = completed([]string{etags[0], `"` + hexMD5("another") + `"`, etags[2]})
			p.Send(t, complete).WantCode(t, 400, "InvalidPart")
			// One that is too small stands where it must not.
			part(7, Request{Body: "small"}).Want(t, 200)
			small := slices.Clone(etags)
			small[6] = `"` + hexMD5("small") + `"`
			complete.Body = completed(small)
			p.Send(t, complete).WantCode(t, 400, "EntityTooSmall")
			part(7, copied).Want(t, 200)
			began = time.Now()
			complete.Body = completed(etags)
			p.Send(t, complete).Want(t, 200)
			t.Logf("completed in %v", time.Since(began).Round(time.Millisecond))
			head := p.Send(t, Request{Method: "HEAD", Bucket: c.Bucket, Key: key}).Want(t, 200)
			assert.Equal(t, strconv.Itoa((parts-1)*5<<20+1), head.Header.Get("Content-Length"))
			assert.Equal(t, multipartETag(t, etags), head.Header.Get("Etag"))
			p.wantLittleMemory(t)
		})
	}
}
