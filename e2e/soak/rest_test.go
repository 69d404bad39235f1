//go:build soak

package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const mib = 1 << 20

// held is what a process holds.
type held struct {
	// RSS and Peak are resident memory, in bytes, Peak at its highest since the rest
	// before.
	RSS, Peak int64
	FDs       int
	Threads   int
	inside    // zero for the delivered binary
}

// rest is what everything holds while nobody works.
type rest struct {
	at    time.Duration
	ops   int64
	sites []held
	// sessions of the database, those of this program left out.
	sessions int
	// rows of tables, and the size of the whole database in bytes.
	rows map[string]int64
	size int64
	// objects that the store keeps; -1 where it does not tell.
	objects int
}

var tables = []string{"objects", "garbage", "uploads", "upload_parts", "object_parts", "outcomes", "retries", "places", "claims", "events", "scopes", "proxies"}

// rest measures once what requests held has been let go.
func (w *world) rest(ctx context.Context) (rest, error) {
	for _, s := range w.sites {
		s.transport.CloseIdleConnections()
	}
	select {
	case <-ctx.Done():
		return rest{}, ctx.Err()
	case <-time.After(restPause):
	}
	r := rest{ops: w.ops.Load(), objects: -1, rows: map[string]int64{}}
	var failed error
	for _, s := range w.sites {
		h, err := s.held(ctx)
		failed = errors.Join(failed, err)
		r.sites = append(r.sites, h)
	}
	if w.store != nil {
		r.objects = w.store.Objects(guardedBucket)
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		return r, errors.Join(failed, err)
	}
	defer conn.Close(ctx)
	failed = errors.Join(failed,
		conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()").Scan(&r.sessions),
		conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&r.size))
	for _, table := range tables {
		var n int64
		failed = errors.Join(failed, conn.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n))
		r.rows[table] = n
	}
	return r, failed
}

// held looks at a process.
func (s *site) held(ctx context.Context) (h held, err error) {
	if s.measure != "" {
		if err := s.look(ctx, "/", &h.inside); err != nil {
			return h, err
		}
	}
	proc := fmt.Sprintf("/proc/%d/", s.pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return h, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			h.RSS = n << 10
		case "VmHWM":
			h.Peak = n << 10
		case "Threads":
			h.Threads = int(n)
		}
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	h.FDs = len(fds)
	// The highest from now on (proc(5), clear_refs).
	return h, errors.Join(err, os.WriteFile(proc+"clear_refs", []byte("5"), 0))
}

func (r rest) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%7v %8d ops", r.at.Round(time.Second), r.ops)
	for _, h := range r.sites {
		fmt.Fprintf(&b, " | %.1f MiB (peak %.1f), %d fds, %d threads", float64(h.RSS)/mib, float64(h.Peak)/mib, h.FDs, h.Threads)
		if h.Goroutines > 0 {
			fmt.Fprintf(&b, ", %d goroutines, heap %.2f MiB", h.Goroutines, float64(h.Heap)/mib)
		}
	}
	fmt.Fprintf(&b, " | %d sessions, %.0f MiB, garbage %d, store %d, events %d", r.sessions, float64(r.size)/mib, r.rows["garbage"], r.objects, r.rows["events"])
	return b.String()
}

// slope is the growth over the whole of a run of what is measured at each rest, by
// least squares, so that one high value at an end is no growth.
func slope(rests []rest, of func(rest) float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, r := range rests {
		x, y := r.at.Seconds(), of(r)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d * (rests[len(rests)-1].at - rests[0].at).Seconds()
	}
	return 0
}

// bounds says what grew. The first quarter is for warming up: pools, caches, the
// runtime's own memory.
func bounds(all []rest) (problems []string) {
	rests := all[len(all)/4:]
	if len(rests) < 3 {
		return []string{fmt.Sprintf("%d rests are too few to see growth", len(all))}
	}
	check := func(what string, most float64, of func(rest) float64) {
		if grown := slope(rests, of); grown > most {
			problems = append(problems, fmt.Sprintf("%s: grows by %.1f from %v to %v, more than %.1f", what, grown, rests[0].at.Round(time.Second), rests[len(rests)-1].at.Round(time.Second), most))
		}
	}
	for i := range rests[0].sites {
		name := []string{"the delivered proxy", "the measured proxy"}[i]
		check(name+", resident MiB", 8, func(r rest) float64 { return float64(r.sites[i].RSS) / mib })
		check(name+", peak MiB", 16, func(r rest) float64 { return float64(r.sites[i].Peak) / mib })
		check(name+", heap MiB", 2, func(r rest) float64 { return float64(r.sites[i].Heap) / mib })
		check(name+", goroutines", 8, func(r rest) float64 { return float64(r.sites[i].Goroutines) })
		check(name+", descriptors", 8, func(r rest) float64 { return float64(r.sites[i].FDs) })
		check(name+", threads", 8, func(r rest) float64 { return float64(r.sites[i].Threads) })
	}
	for _, r := range rests {
		if r.sessions > 2*(16+4) {
			problems = append(problems, fmt.Sprintf("%d sessions of the database after %v", r.sessions, r.at.Round(time.Second)))
		}
	}
	return problems
}

// report is the table for people.
func report(rests []rest, w *world) string {
	var b strings.Builder
	b.WriteString("| after | operations | delivered: MiB, peak, descriptors | measured: MiB, peak, descriptors | goroutines | heap MiB | sessions | objects | garbage | uploads | outcomes | retries | events | database MiB | in the store |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rests {
		fmt.Fprintf(&b, "| %v | %d ", r.at.Round(time.Second), r.ops)
		for _, h := range r.sites {
			fmt.Fprintf(&b, "| %.0f, %.0f, %d ", float64(h.RSS)/mib, float64(h.Peak)/mib, h.FDs)
		}
		in := r.sites[len(r.sites)-1]
		fmt.Fprintf(&b, "| %d | %.1f | %d | %d | %d | %d | %d | %d | %d | %.0f | %d |\n", in.Goroutines, float64(in.Heap)/mib, r.sessions,
			r.rows["objects"], r.rows["garbage"], r.rows["uploads"], r.rows["outcomes"], r.rows["retries"], r.rows["events"], float64(r.size)/mib, r.objects)
	}
	b.WriteString("\n" + w.summary() + "\n")
	return b.String()
}
