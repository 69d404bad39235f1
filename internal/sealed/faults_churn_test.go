//go:build !pausepoints

package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// TestCollectorsRaceWriters: two collectors run without a pause, with bounds so
// short that names grow too old while they are written, against writers that put,
// copy, upload in parts and delete. What was acknowledged is there in the end,
// what was not is not, and in the meantime nothing is ever found lost (F6, F7).
func TestCollectorsRaceWriters(t *testing.T) {
	t.Parallel()
	for _, kind := range states {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := Options{LongestUpload: 40 * time.Millisecond, CollectAfter: time.Nanosecond}
			handles, pass := openStates(t, kind, 2), func() {}
			if kind == "memory" {
				// Time passes by the round of the collectors: more of them for each write.
				c := &clock{now: time.Now()}
				st := memory.New(memory.WithClock(c.Now))
				handles, pass = []state.State{st, st}, func() { c.Add(15 * time.Millisecond) }
			}
			two := newProxies(t, handles, openStore(t), o, jobs)
			churn(t, two, pass)
		})
	}
}

func churn(t *testing.T, two []*proxy, pass func()) {
	op := two[0].op(jobs, two[0].mustTake(jobs))
	var stop atomic.Bool
	var collectors, writers sync.WaitGroup
	for _, p := range two {
		collectors.Go(func() {
			for !stop.Load() {
				if err := p.CollectOnce(context.Background()); err != nil {
					t.Errorf("collector: %v", err)
				}
				pass()
			}
		})
	}
	const keys = 6
	want := make([]string, keys) // of each key, which has one writer
	var acknowledged, tooOld atomic.Int64
	for key := range keys {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
			ref := object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d", key)}
			for n := range 40 {
				p := two[rng.IntN(2)]
				value := fmt.Sprintf("%d-%d", key, n)
				err := change(p, op, ref, value, &want[key], rng)
				switch {
				case err == nil:
					acknowledged.Add(1)
				case again(err) || errors.Is(err, object.ErrNoSuchUpload):
					tooOld.Add(1) // nothing happened
				default:
					t.Errorf("%s: %v", ref, err)
				}
				got, err := two[rng.IntN(2)].see(op, ref)
				if errors.Is(err, object.ErrNoSuchKey) {
					got, err = "", nil
				}
				if err != nil || got != want[key] {
					t.Errorf("%s: reads %.30q, %v instead of %.30q", ref, got, err, want[key])
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	collectors.Wait()
	for range 8 { // let everything that nobody refers to go
		pass()
		time.Sleep(two[0].opts.LongestUpload) // the databases' own clock
		require.NoError(t, two[0].CollectOnce(t.Context()))
	}
	there := 0
	for key, value := range want {
		got, err := two[1].see(op, object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d", key)})
		if value == "" {
			require.ErrorIs(t, err, object.ErrNoSuchKey)
			continue
		}
		there++
		require.NoError(t, err)
		assert.Equal(t, value, got)
	}
	assert.GreaterOrEqual(t, len(two[0].physical()), there)
	assert.Positive(t, acknowledged.Load())
	t.Logf("%d acknowledged, %d too old, %d objects, %d physical ones", acknowledged.Load(), tooOld.Load(), there, len(two[0].physical()))
}

// change writes value, or deletes, in one of the ways there are, and keeps want.
func change(p *proxy, op guarded.Op, ref object.Ref, value string, want *string, rng *rand.Rand) error {
	ctx := context.Background()
	put := func(ref object.Ref, value string) error {
		size := int64(len(value))
		if rng.IntN(4) == 0 {
			size = -1 // in parts, looked at before
		}
		_, err := p.Put(ctx, &guarded.Put{Op: op, Ref: ref, Body: strings.NewReader(value), Size: size})
		return err
	}
	var err error
	switch rng.IntN(6) {
	case 0:
		if err = p.Delete(ctx, &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: ref}}})[0]; err == nil {
			*want = ""
		}
		return err
	case 1:
		from := object.Ref{Bucket: ref.Bucket, Key: ref.Key + "/source"}
		if err = put(from, value); err != nil {
			return err
		}
		_, err = p.Copy(ctx, &guarded.Copy{Op: op, Ref: ref, Source: guarded.Source{Op: op, Ref: from}})
	case 2:
		var id string
		if id, err = p.CreateUpload(ctx, &guarded.CreateUpload{Op: op, Ref: ref}); err != nil {
			return err
		}
		u := guarded.UploadRef{Op: op, Ref: ref, ID: id}
		var part guarded.PartInfo
		if part, err = p.UploadPart(ctx, &guarded.Part{UploadRef: u, Number: 1, Body: bytes.NewReader([]byte(value)), Size: int64(len(value))}); err != nil {
			return err
		}
		_, err = p.Complete(ctx, &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{part}})
	default:
		err = put(ref, value)
	}
	if err == nil {
		*want = value
	}
	return err
}
