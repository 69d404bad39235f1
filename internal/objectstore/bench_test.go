package objectstore_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

// BenchmarkPut measures durable PUTs over HTTP by size, callers and where the
// bytes go. Results hang on the disk's fsync.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ size, callers, inline int }{
		{1 << 10, 1, 0}, {1 << 10, 16, 0}, {1 << 10, 16, -1},
		{4 << 10, 16, 0}, {4 << 10, 64, 0},
		{16 << 10, 16, 0}, {16 << 10, 16, -1}, {32 << 10, 16, 0}, {32 << 10, 16, -1}, {1 << 20, 4, 0},
	} {
		b.Run(fmt.Sprintf("size=%d/callers=%d/inlined=%t", c.size, c.callers, c.inline == 0 && c.size <= 32<<10), func(b *testing.B) {
			w := openWorld(b, b.TempDir(), objectstore.Options{InlineBytes: c.inline})
			content := pattern(c.size, 1)
			var n atomic.Int64
			b.SetBytes(int64(c.size))
			parallel(b, c.callers, func() {
				key := fmt.Sprintf("/bucket/k%d", n.Add(1)%10000)
				exchange(b, presigned(b, w, "PUT", key, string(content), nil, time.Now(), "60"), nil)
			})
		})
	}
}

// BenchmarkGet measures reads of small and large objects.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10, 8 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := newWorld(b)
			content := pattern(size, 1)
			w.put(b, "k", content)
			b.SetBytes(int64(size))
			parallel(b, 16, func() {
				exchange(b, presigned(b, w, "GET", "/bucket/k", "", nil, time.Now(), "60"), content)
			})
		})
	}
}

// BenchmarkList measures one page of 1000 keys out of 100,000, and the roll-up
// of all of them under 100 common prefixes.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	require.NoError(b, w.store.Fill(b.Context(), bucket, 100_000))
	for name, query := range map[string]string{
		"page":    "?list-type=2&start-after=p050%2Fk0000500",
		"roll-up": "?list-type=2&delimiter=%2F",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				exchange(b, presigned(b, w, "GET", "/bucket"+query, "", nil, time.Now(), "60"), nil)
			}
		})
	}
}

func parallel(b *testing.B, callers int, fn func()) {
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	start := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			fn()
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "req/s")
}

var benchClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func exchange(b *testing.B, r *http.Request, want []byte) {
	answer, err := benchClient.Do(r)
	if err != nil {
		b.Error(err)
		return
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	io.Copy(&text, answer.Body)
	if answer.StatusCode != http.StatusOK || want != nil && text.Len() != len(want) {
		b.Errorf("%s: %d %s", r.URL, answer.StatusCode, strings.TrimSpace(text.String()[:min(200, text.Len())]))
	}
}
