//go:build soak

package soak

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	flagFor     = flag.Duration("for", time.Hour, "how long at least")
	flagOps     = flag.Int64("ops", 1_000_000, "how many operations at least; the run fails where it has not done them in twice its time")
	flagRests   = flag.Int("rests", 20, "how often all rest while what the proxies hold is measured")
	flagHolders = flag.Int("holders", 24, "scopes with a holder at work")
	flagMinIO   = flag.Bool("minio", false, "MinIO as the store")
	flagOut     = flag.String("out", "", "file for the table of all rests")
)

// restPause bounds the time in which what requests held is let go.
const restPause = 8 * time.Second

// last is the line that stands at the end of the whole output.
var last string

func TestMain(m *testing.M) {
	if file := os.Getenv(configVariable); file != "" {
		if err := serveSelf(file, os.Getenv(measureVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if last != "" {
		fmt.Fprintln(os.Stdout, last)
	}
	os.Exit(code)
}

// TestSoak is the program; see the package's documentation.
func TestSoak(t *testing.T) {
	if *flagFor <= 0 || *flagRests < 4 || *flagHolders < 1 {
		t.Fatal("-for is positive, -rests 4 at least, -holders 1 at least")
	}
	begun := time.Now()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	defer workers.Wait()
	defer stop()
	for _, a := range w.actors() {
		workers.Go(func() {
			for ctx.Err() == nil {
				if !w.gate.enter(ctx) {
					return
				}
				a.step(context.WithoutCancel(ctx)) // bounded by itself
				w.gate.leave()
			}
		})
	}
	var rests []rest
	every := *flagFor / time.Duration(*flagRests)
	for ctx.Err() == nil {
		w.disturb(ctx, every)
		if !w.gate.close(ctx) {
			break
		}
		r, err := w.rest(ctx)
		if err != nil {
			t.Error(err)
		}
		r.at = time.Since(begun)
		rests = append(rests, r)
		fmt.Fprintln(os.Stderr, r.line())
		w.gate.open()
		if w.failed() {
			break
		}
		if took := time.Since(begun); took >= 2**flagFor || took >= *flagFor && w.ops.Load() >= *flagOps {
			break
		}
	}
	stop()
	workers.Wait()
	took := time.Since(begun)
	for _, a := range w.actors() {
		a.verify(t)
	}
	end, err := w.rest(t.Context())
	if err != nil {
		t.Error(err)
	}
	end.at = time.Since(begun)
	rests = append(rests, end)
	for _, problem := range w.problems() {
		t.Error(problem)
	}
	for _, problem := range bounds(rests) {
		t.Error(problem)
	}
	if n := w.ops.Load(); n < *flagOps {
		t.Errorf("%d operations in %v: fewer than %d", n, took.Round(time.Second), *flagOps)
	}
	table := report(rests, w)
	fmt.Fprintln(os.Stdout, table)
	if *flagOut != "" {
		if err := os.WriteFile(*flagOut, []byte(table), 0o600); err != nil {
			t.Error(err)
		}
	}
	verdict := "nothing lost, nothing grown"
	if t.Failed() {
		verdict = "FAILED"
	}
	last = fmt.Sprintf("soak: %d operations in %v, %s: %s", w.ops.Load(), took.Round(time.Second), strings.TrimSpace(w.summary()), verdict)
}

// gate lets all actors rest at one time. The zero value is open.
type gate struct {
	mu sync.RWMutex
}

// enter waits while the gate is closed.
func (g *gate) enter(ctx context.Context) bool {
	g.mu.RLock()
	if ctx.Err() != nil {
		g.mu.RUnlock()
		return false
	}
	return true
}

func (g *gate) leave() { g.mu.RUnlock() }

// close waits until all who are inside have left.
func (g *gate) close(ctx context.Context) bool {
	g.mu.Lock()
	if ctx.Err() != nil {
		g.mu.Unlock()
		return false
	}
	return true
}

func (g *gate) open() { g.mu.Unlock() }
