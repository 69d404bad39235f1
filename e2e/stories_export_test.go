package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/storetest"
)

// lastTold is what writers were told last, by key; empty for deleted.
type lastTold struct {
	mu   sync.Mutex
	last map[string]string
}

func (l *lastTold) note(key, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[key] = body
}

// A team leaves while it works: 2,000 objects, four writers who go on through another
// proxy, and the proxy that exports killed in the middle. What writers were told last
// is what stands in the store, byte for byte, when the guard is gone.
func TestMovingOut(t *testing.T) { // F5, F6
	t.Parallel()
	for _, tc := range []struct {
		name    string
		store   func(testing.TB) *storetest.Server
		objects int
	}{{"minio", storetest.MinIO, 2000}, {"versitygw", storetest.Versitygw, 500}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const writers = 4
			objects := tc.objects
			c := NewCluster(t, Options{Proxies: 2, MinIO: tc.store(t), Config: map[string]any{"upstream_validity": "3s", "settle_bound": "2s", "guard_lease": "3s"}})
			a, b := c.Proxies[0], c.Proxies[1]
			direct := c.Store.Client(t)
			_, err := direct.PutObject(t.Context(), c.Bucket, "jobs/old", strings.NewReader("before the guard"), 16, minio.PutObjectOptions{})
			require.NoError(t, err)
			a.CLI("guard", "add", c.Scope("jobs/")).Must(t)
			token := a.Acquire(t, c.Scope("jobs/"), "ann")
			client := b.S3(TokenHeader(token))
			told := &lastTold{last: map[string]string{}}
			put := func(key, body string) error {
				_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: &key, Body: strings.NewReader(body),
					ContentType: aws.String("text/x-story"), Metadata: map[string]string{"key": key}})
				if err == nil {
					told.note(key, body)
				}
				return err
			}
			remove := func(key string) error {
				_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &key})
				if err == nil {
					told.note(key, "")
				}
				return err
			}
			var seed errgroup.Group
			seed.SetLimit(8)
			for n := range objects {
				seed.Go(func() error { return put(fmt.Sprintf("jobs/%d/%04d", n%7, n), fmt.Sprintf("object %d", n)) })
			}
			require.NoError(t, seed.Wait())
			require.NoError(t, remove("jobs/old"))

			stop := make(chan struct{})
			var writing sync.WaitGroup
			var refused atomic.Int64
			for w := range writers {
				writing.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Millisecond): // not to starve what is tested
						}
						k := (w + writers*n*31) % objects // each its own
						key := fmt.Sprintf("jobs/%d/%04d", k%7, k)
						err := put(key, fmt.Sprintf("by writer %d, %d", w, n))
						if err == nil && n%9 == 0 {
							err = remove(key)
						}
						if err != nil {
							refused.Add(1)
							return
						}
					}
				})
			}
			defer writing.Wait()
			defer func() {
				select {
				case <-stop:
				default:
					close(stop)
				}
			}()

			// The first run is cut off in the middle.
			first := make(chan Output, 1)
			go func() { first <- a.CLI("export", "--remove-guard", c.Scope("jobs/")) }()
			require.Eventually(t, func() bool { return len(plainKeys(t, direct, c.Bucket)) > objects/4 }, time.Minute, 20*time.Millisecond)
			a.Kill()
			assert.NotZero(t, (<-first).Code)
			a.Restart()
			assert.Equal(t, map[string]string{c.Scope("jobs/"): "required"}, guardsOf(t, a))
			assert.Zero(t, refused.Load(), "writers noticed the first run")

			var done struct {
				Objects, Copied, Deleted, Late int
				Removed                        bool
				ClosedMS                       int64 `json:"closed_ms"`
			}
			out := a.CLI("export", "--remove-guard", "--json", c.Scope("jobs/"))
			require.NoError(t, json.Unmarshal([]byte(out.Must(t)), &done))
			writing.Wait()
			close(stop)
			assert.True(t, done.Removed)
			assert.Contains(t, out.Stderr, "writing objects back") // of what is shorter than a second it need not tell
			assert.Equal(t, int64(writers), refused.Load())
			t.Logf("%d objects; %d copied, %d deleted; closed for %d ms with %d changes", done.Objects, done.Copied, done.Deleted, done.ClosedMS, done.Late)

			want := map[string]bool{}
			for key, body := range told.last {
				if body != "" {
					want[key] = true
				}
			}
			got := plainKeys(t, direct, c.Bucket)
			assert.Len(t, got, len(want))
			var compare errgroup.Group
			compare.SetLimit(8)
			for _, key := range got {
				compare.Go(func() error {
					o, err := direct.GetObject(t.Context(), c.Bucket, key, minio.GetObjectOptions{})
					if err != nil {
						return err
					}
					defer o.Close()
					body, err := io.ReadAll(o)
					if err != nil {
						return err
					}
					info, err := o.Stat()
					if err != nil {
						return err
					}
					if string(body) != told.last[key] || info.ContentType != "text/x-story" || info.UserMetadata["Key"] != key || info.ETag != hexMD5(string(body)) {
						t.Errorf("%s: %q (%v), want %q", key, body, info, told.last[key])
					}
					return nil
				})
			}
			require.NoError(t, compare.Wait())

			// Nothing is guarded any more, and both proxies say so.
			assert.Empty(t, guardsOf(t, b))
			require.Eventually(t, func() bool { return b.Put(t, "jobs/0/0000", "unguarded").Status == 200 }, time.Minute, 50*time.Millisecond)
			a.CLI("export", c.Scope("jobs/")).WantErr(t, 1, "there is no guard")
			events := a.CLI("events", "--json").Must(t)
			assert.Contains(t, events, "guard_exported")
		})
	}
}

// plainKeys are the keys of the store's bucket that are not s3fence's own.
func plainKeys(t *testing.T, store *minio.Client, bucket string) []string {
	var keys []string
	for o := range store.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: "jobs/", Recursive: true}) {
		if o.Err == nil {
			keys = append(keys, o.Key)
		}
	}
	return keys
}
