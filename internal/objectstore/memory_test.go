package objectstore_test

import (
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

// endless gives bytes that are not all alike.
type endless struct{ n byte }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.n
	}
	e.n++
	return len(p), nil
}

// Everything allocated while a large object passes through, not just what is
// live, stays far below its size. Not parallel: it counts the whole process.
func TestMemoryIsFlat(t *testing.T) {
	const size, bound = 192 << 20, 8 << 20
	w := openWorld(t, t.TempDir(), objectstore.Options{})
	transfer := func(method string, body io.Reader) {
		r := presigned(t, w, method, "/bucket/k", "", nil, time.Now(), "600")
		if body != nil {
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(body, size)), size
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		require.Equal(t, http.StatusOK, answer.StatusCode)
		n, err := io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		if method == "GET" {
			require.EqualValues(t, size, n)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	transfer("PUT", &endless{})
	transfer("GET", nil)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(bound))
}
