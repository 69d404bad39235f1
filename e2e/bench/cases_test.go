//go:build bench

package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	// seeds are how many objects of a size there are to be read.
	smallSeeds, largeSeeds = 512, 32
	// page is the length of a listed page.
	page = 100
)

// target is what a measurement should reach; nothing fails where it does not.
type target struct {
	// value is a lower bound where atLeast, else an upper bound.
	value   float64
	atLeast bool
}

// load is one case.
type load struct {
	// name as in a benchmark's name, title as people say it.
	name, title string
	method      string
	// size of the object that is sent or read, in bytes.
	size int
	// callers is zero for what the flag says.
	callers int
	sides   []string
	// ratios are targets by side.
	ratios map[string]target
	// cpu is a target for the proxy's processor time in ms, by side.
	cpu map[string]target
	// shots signs n requests of one caller for one round.
	shots func(ctx context.Context, e *endpoint, l *load, round, caller, n int) ([]shot, error)
	// fresh says that each request of a round needs a key of its own.
	fresh bool
}

var (
	all         = []string{"direct", "unguarded", "sealed"}
	sealedAlone = []string{"direct", "sealed"}
)

func least(v float64) target { return target{v, true} }
func most(v float64) target  { return target{v, false} }

// loads are all cases, in the order of the report.
func loads() []*load {
	return []*load{
		{name: "Put4KiB", title: "PUT 4 KiB", method: http.MethodPut, size: 4 * kib, sides: all, fresh: true, shots: puts,
			ratios: map[string]target{"unguarded": least(0.90), "sealed": least(0.75)},
			cpu:    map[string]target{"sealed": most(0.35)}},
		{name: "Get4KiB", title: "GET 4 KiB", method: http.MethodGet, size: 4 * kib, sides: all, shots: reads,
			ratios: map[string]target{"unguarded": least(0.85), "sealed": least(0.65)}},
		{name: "Head4KiB", title: "HEAD 4 KiB", method: http.MethodHead, size: 4 * kib, sides: sealedAlone, shots: reads},
		{name: "List100", title: "LIST 100 keys", method: http.MethodGet, size: 4 * kib, sides: sealedAlone, shots: lists},
		{name: "Get1MiB", title: "GET 1 MiB", method: http.MethodGet, size: mib, sides: all, shots: reads,
			ratios: map[string]target{"unguarded": least(0.75), "sealed": least(0.75)}},
		{name: "Put64MiB", title: "PUT 64 MiB", method: http.MethodPut, size: 64 * mib, callers: 2, sides: all, shots: puts,
			ratios: map[string]target{"unguarded": least(0.95), "sealed": least(0.95)}},
	}
}

// content is what is sent: one run of bytes, which bodies are prefixes of.
var content = sync.OnceValue(func() []byte {
	b := make([]byte, 64*mib)
	x := uint64(1)
	for i := range b {
		// A linear congruential generator: bytes that do not compress.
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	return b
})

// puts writes keys of this round, fresh ones unless a round would take too much
// of the disk with them.
func puts(ctx context.Context, e *endpoint, l *load, round, caller, n int) ([]shot, error) {
	folder := l.name + "/" + strconv.Itoa(round) + "/"
	if !l.fresh {
		folder, n = l.name+"/", 1
	}
	return times(n, func(i int, at time.Time) (shot, error) {
		return e.object(ctx, http.MethodPut, folder+strconv.Itoa(caller)+"-"+strconv.Itoa(i), content()[:l.size], at)
	})
}

// reads asks for the seeds, each caller beginning at another one.
func reads(ctx context.Context, e *endpoint, l *load, _, caller, _ int) ([]shot, error) {
	n := seedsOf(l.size)
	return times(n, func(i int, at time.Time) (shot, error) {
		return e.object(ctx, l.method, seedKey(l.size, (i+caller*n/16)%n), nil, at)
	})
}

// lists asks for pages of the small seeds.
func lists(ctx context.Context, e *endpoint, l *load, _, _, _ int) ([]shot, error) {
	return times(1, func(_ int, at time.Time) (shot, error) {
		query := fmt.Sprintf("list-type=2&max-keys=%d&prefix=%s", page, "hot%2Fseed%2F"+strconv.Itoa(l.size)+"%2F")
		return e.sign(ctx, http.MethodGet, "/"+e.bucket, query, unsigned, nil, at)
	})
}

func times(n int, one func(i int, at time.Time) (shot, error)) ([]shot, error) {
	shots := make([]shot, n)
	at := time.Now()
	for i := range shots {
		var err error
		if shots[i], err = one(i, at); err != nil {
			return nil, err
		}
	}
	return shots, nil
}

func seedsOf(size int) int {
	if size >= mib {
		return largeSeeds
	}
	return smallSeeds
}

func seedKey(size, i int) string { return fmt.Sprintf("seed/%d/%05d", size, i) }

// seed writes the objects that are read, on every side.
func seed(t *testing.T, s *servers, sizes ...int) {
	t.Helper()
	for name, e := range s.sides {
		for _, size := range sizes {
			shots, err := times(seedsOf(size), func(i int, at time.Time) (shot, error) {
				return e.object(t.Context(), http.MethodPut, seedKey(size, i), content()[:size], at)
			})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for part := range 8 {
				wg.Go(func() {
					w := newWire(e.addr)
					defer w.close()
					for i := part; i < len(shots); i += 8 {
						if _, err := w.send(t.Context(), &shots[i]); err != nil {
							t.Errorf("seed %s: %v", name, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// sweep removes what a round of large sealed PUTs left in the store: each
// write has a physical key of its own, and the collector keeps it for days.
// Nobody reads those objects any more.
func sweep(t *testing.T, s *servers, size int) {
	t.Helper()
	client := s.store.Client(t)
	for o := range client.ListObjects(t.Context(), sealedBucket, minio.ListObjectsOptions{Prefix: ".s3fence/", Recursive: true}) {
		if o.Err != nil {
			t.Fatalf("sweep: %v", o.Err)
		}
		if o.Size != int64(size) {
			continue
		}
		if err := client.RemoveObject(t.Context(), sealedBucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatalf("sweep: %v", err)
		}
	}
}
