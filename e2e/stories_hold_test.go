package e2e

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/client/awss3"
	"github.com/s3fence/s3fence/client/minios3"
	"github.com/s3fence/s3fence/internal/pgtest"
)

// Client returns the public Go client of the proxy.
func (p *Proxy) Client(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(p.URL, p.cluster.AccessKey, p.cluster.SecretKey, client.WithHTTPClient(p.http()))
	require.NoError(t, err)
	return c
}

// Hold holds the lock of a scope in the cluster's bucket until the test ends.
func (p *Proxy) Hold(t *testing.T, prefix string, opts ...client.HoldOption) *client.Held {
	t.Helper()
	h, err := p.Client(t).Hold(t.Context(), p.cluster.Scope(prefix), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	return h
}

// Both SDKs under a lock that is held, by fenced credentials and by stamping, in
// every form in which they send requests; and all of it refused once somebody
// else has the lock.
func TestHoldWithSDKs(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"http", "https"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{TLS: transport == "https", Guards: []Guard{{Prefix: "jobs/"}}})
			p := c.Proxies[0]
			held := p.Hold(t, "jobs/", client.WithForce("a test"), client.WithTTL(time.Minute))
			// The proxy's own certificate is trusted by this client alone.
			trusting := func(o *s3.Options) { o.HTTPClient = p.http() }
			fenced := func(o *s3.Options) { o.Credentials = held.Credentials() }
			mfenced, err := minios3.New(held, &minio.Options{Transport: p.transport(), MaxRetries: 1})
			require.NoError(t, err)
			key := aws.String("jobs/k")

			c.Run(t, "aws-sdk-go-v2, fenced credentials", func(t *testing.T) { goSDKStory(t, c, "jobs/", fenced) })
			c.Run(t, "aws-sdk-go-v2, stamped", func(t *testing.T) { goSDKStory(t, c, "jobs/", awss3.Stamp(held)) })
			if transport == "http" {
				c.Run(t, "aws-sdk-go-v2, both, outside of the scope", func(t *testing.T) { goSDKStory(t, c, "open/", fenced, awss3.Stamp(held)) })
			}
			c.Run(t, "minio-go, fenced credentials", func(t *testing.T) { minioStory(t, c, mfenced, "jobs/") })
			c.Run(t, "presigned", func(t *testing.T) {
				for name, client := range map[string]*s3.Client{"fenced": awss3.New(held, trusting), "stamped": p.S3(awss3.Stamp(held)), "both": p.S3(fenced, awss3.Stamp(held))} {
					link, err := s3.NewPresignClient(client).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: key})
					require.NoError(t, err)
					use(t, p, http.MethodPut, link.URL, "by link, "+name).Want(t, 200)
					assert.Equal(t, "by link, "+name, p.Get(t, *key))
				}
				own := p.MinIO(t)
				query, err := minios3.Query(held)
				require.NoError(t, err)
				link, err := own.Presign(t.Context(), http.MethodPut, c.Bucket, *key, time.Minute, query)
				require.NoError(t, err)
				use(t, p, http.MethodPut, link.String(), "by minio-go's link").Want(t, 200)
				assert.Equal(t, "by minio-go's link", p.Get(t, *key))
			})
			c.Run(t, "minio-go, stamped", func(t *testing.T) {
				ctx, own := t.Context(), p.MinIO(t)
				for _, size := range []int{100, 11 << 20} {
					put := minio.PutObjectOptions{PartSize: 5 << 20}
					require.NoError(t, minios3.StampPut(held, &put))
					_, err := own.PutObject(ctx, c.Bucket, *key, strings.NewReader(strings.Repeat("x", size)), int64(size), put)
					require.NoError(t, err)
				}
				get := minio.StatObjectOptions{}
				require.NoError(t, minios3.StampGet(held, &get))
				info, err := own.StatObject(ctx, c.Bucket, *key, get)
				require.NoError(t, err)
				assert.Empty(t, info.UserMetadata)
				to := minio.CopyDestOptions{Bucket: c.Bucket, Object: "jobs/copy", ReplaceMetadata: true}
				require.NoError(t, minios3.StampCopy(held, &to))
				_, err = own.CopyObject(ctx, to, minio.CopySrcOptions{Bucket: c.Bucket, Object: *key})
				require.NoError(t, err)
			})
			c.Run(t, "stale", func(t *testing.T) {
				ctx, own := t.Context(), p.MinIO(t)
				put, get := minio.PutObjectOptions{}, minio.StatObjectOptions{}
				require.NoError(t, minios3.StampPut(held, &put))
				require.NoError(t, minios3.StampGet(held, &get))
				next := p.Hold(t, "jobs/", client.WithForce("the other hangs"))
				// It was not renewed since, so it does not know yet.
				require.NoError(t, held.Context().Err())
				late := &s3.PutObjectInput{Bucket: &c.Bucket, Key: key, Body: strings.NewReader("late")}
				for _, option := range []func(*s3.Options){fenced, awss3.Stamp(held)} {
					_, err := p.S3(option).PutObject(ctx, late)
					wantAPIError(t, err, "StaleFencingToken")
					_, err = p.S3(option).DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: key})
					wantAPIError(t, err, "StaleFencingToken")
					_, err = p.S3(option).GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key})
					wantAPIError(t, err, "StaleFencingToken")
				}
				for _, err := range []error{
					mfenced.RemoveObject(ctx, c.Bucket, *key, minio.RemoveObjectOptions{}),
					errorOf(own.PutObject(ctx, c.Bucket, *key, strings.NewReader("late"), 4, put)),
				} {
					assert.Equal(t, "StaleFencingToken", minio.ToErrorResponse(err).Code, "%v", err)
				}
				_, err := own.StatObject(ctx, c.Bucket, *key, get)
				assert.Equal(t, 412, minio.ToErrorResponse(err).StatusCode)
				_, err = p.S3(awss3.Stamp(next)).PutObject(ctx, &s3.PutObjectInput{Bucket: &c.Bucket, Key: key, Body: strings.NewReader("in time")})
				require.NoError(t, err)
				require.ErrorIs(t, held.Release(ctx), client.ErrLost, "what somebody else has is not given back")
				require.NoError(t, next.Context().Err())
				assert.Equal(t, "in time", p.Get(t, *key))
				require.NoError(t, next.Release(ctx))
				again := p.Hold(t, "jobs/")
				assert.Greater(t, again.Token(), next.Token())
			})
		})
	}
}

func errorOf[T any](_ T, err error) error { return err }

// use sends a presigned request.
func use(t *testing.T, p *Proxy, method, link, body string) Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, link, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := p.do(req)
	require.NoError(t, err)
	return answer
}

// events keeps what an observer was told, and lets a test wait for more.
type holdEvents struct {
	mu   sync.Mutex
	seen []client.HoldEvent
}

func (e *holdEvents) tell(ev client.HoldEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, ev)
}

// next waits for an event of a kind after the first n, and returns how many there
// are up to it.
func (e *holdEvents) next(t *testing.T, n int, kind client.HoldEventKind) int {
	t.Helper()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(5 * time.Millisecond) {
		e.mu.Lock()
		at := slices.IndexFunc(e.seen[n:], func(ev client.HoldEvent) bool { return ev.Kind == kind })
		lost := slices.IndexFunc(e.seen, func(ev client.HoldEvent) bool { return ev.Kind == client.HoldLost })
		e.mu.Unlock()
		if at >= 0 {
			return n + at + 1
		}
		if lost >= 0 || time.Now().After(deadline) {
			t.Fatalf("not %v: %v", kind, e.seen)
		}
	}
}

// A hold survives the restart of the database and of its proxy inside its lease,
// and goes on with what answers.
func TestHoldSurvivesRestarts(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	c := NewCluster(t, Options{Postgres: server, Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	var events holdEvents
	held := p.Hold(t, "jobs/", client.WithTTL(18*time.Second), client.WithObserver(events.tell))
	began := held.Lease().Deadline

	require.NoError(t, server.Stop(pgtest.Immediate))
	n := events.next(t, 0, client.HoldRetrying)
	require.NoError(t, server.Start())
	n = events.next(t, n, client.HoldRenewed)

	p.Kill()
	n = events.next(t, n, client.HoldRetrying)
	p.Restart()
	events.next(t, n, client.HoldRenewed)

	require.NoError(t, held.Context().Err())
	assert.True(t, held.Lease().Deadline.After(began))
	_, err := p.S3(awss3.Stamp(held)).PutObject(held.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/k"), Body: strings.NewReader("held")})
	require.NoError(t, err)
	require.NoError(t, held.Release(t.Context()))
	assert.Equal(t, "held", p.Get(t, "jobs/k"))
}

// A holder that was stopped past its lease while somebody else took the lock
// learns it before it could renew, and the writes that it had begun are refused,
// whichever way they carry their token. (F4)
func TestFrozenHolder(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	h := p.StartHolder(t, "jobs/")
	token, err := strconv.ParseInt(h.Await(t, "held"), 10, 64)
	require.NoError(t, err)
	require.NoError(t, h.process.Pause())
	frozen := strings.Count(strings.Join(h.lines(), "\n"), "renewed")

	next := p.Hold(t, "jobs/", client.WithWait(time.Minute), client.WithOwner("bob@host"))
	assert.Greater(t, next.Token(), token)
	for _, name := range []string{"credentials", "stamped", "refused", "forgetful"} {
		_, err := p.S3(awss3.Stamp(next)).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/" + name), Body: strings.NewReader("newer")})
		require.NoError(t, err)
	}
	require.NoError(t, h.process.Resume())
	ended := h.Await(t, "ended")
	h.Await(t, "released")
	lines := h.lines()
	assert.True(t, strings.HasPrefix(ended, "lost ") || strings.HasPrefix(ended, "maybe-lost "), ended)
	assert.Equal(t, frozen, strings.Count(strings.Join(lines, "\n"), "renewed"), "nothing was renewed after it woke")
	assert.Contains(t, h.Await(t, "credentials"), "412 StaleFencingToken")
	assert.Contains(t, h.Await(t, "stamped"), "412 StaleFencingToken")
	assert.Contains(t, h.Await(t, "forgetful"), "StaleFencingToken")
	for _, way := range []string{"refused credentials", "refused stamped"} {
		assert.Contains(t, h.Await(t, way), " lost", "nothing is signed any more")
	}
	for _, name := range []string{"credentials", "stamped", "refused", "forgetful"} {
		assert.Equal(t, "newer", p.Get(t, "jobs/"+name))
	}
	require.NoError(t, next.Context().Err())
}
