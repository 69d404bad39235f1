//go:build bench

package bench

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// verdict is one measurement with what it should reach.
type verdict struct {
	what    string
	got     float64
	unit    string
	want    target
	reached bool
}

func judge(what string, got float64, unit string, want target) verdict {
	reached := got <= want.value
	if want.atLeast {
		reached = got >= want.value
	}
	return verdict{what, got, unit, want, reached}
}

func (v verdict) bound() string {
	sign := "≤"
	if v.want.atLeast {
		sign = "≥"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", sign, number(v.want.value), v.unit))
}

// number writes three digits that count, and no exponent.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *result) each(f func(*sample) float64) float64 {
	values := make([]float64, len(r.samples))
	for i := range r.samples {
		values[i] = f(&r.samples[i])
	}
	return median(values)
}

// perOp is a processor time per operation over all rounds, in ms. /proc counts
// in 10 ms, so that rounds are added up before they are divided.
func (r *result) perOp(f func(*sample) time.Duration) float64 {
	var total time.Duration
	ops := 0
	for i := range r.samples {
		total += f(&r.samples[i])
		ops += r.samples[i].ops
	}
	return ms(total) / float64(max(1, ops))
}

func (r *result) rate() float64  { return r.each(func(s *sample) float64 { return s.rate }) }
func (r *result) ratio() float64 { return median(r.ratios) }
func (r *result) proxyCPU() float64 {
	return r.perOp(func(s *sample) time.Duration { return s.proxyCPU })
}
func (r *result) clientCPU() float64 {
	return r.perOp(func(s *sample) time.Duration { return s.clientCPU })
}

func (r *result) storeCPU() float64 {
	return r.perOp(func(s *sample) time.Duration { return s.storeCPU })
}
func (r *result) databaseCPU() float64 {
	return r.perOp(func(s *sample) time.Duration { return s.databaseCPU })
}

func (r *result) peak() (most int64) {
	for _, s := range r.samples {
		most = max(most, s.peak)
	}
	return most
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// table prints all cases, one line for each side.
func table(w io.Writer, results []*result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t\t\t\t\t\t\tCPU ms/op:\t\t\t\tproxy\t")
	fmt.Fprintln(t, "case\tcallers\tside\tops/s\tp50 ms\tp99 ms\tratio\tproxy\tdatabase\tstore\tclient\tpeak MiB\t")
	for _, r := range results {
		ratio, proxy, database, peak := "", "", "", ""
		if r.side != "direct" {
			ratio = fmt.Sprintf("%s (%s–%s)", number(r.ratio()), number(slices.Min(r.ratios)), number(slices.Max(r.ratios)))
			peak = fmt.Sprintf("%.1f", float64(r.peak())/mib)
			proxy, database = fmt.Sprintf("%.3f", r.proxyCPU()), fmt.Sprintf("%.3f", r.databaseCPU())
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.3f\t%.3f\t%s\t\n", r.load.title, r.callers, r.side, number(r.rate()),
			number(r.each(func(s *sample) float64 { return ms(s.p50) })), number(r.each(func(s *sample) float64 { return ms(s.p99) })),
			ratio, proxy, database, r.storeCPU(), r.clientCPU(), peak)
	}
	return t.Flush()
}

// quiet says how much of the machine belonged to others while it was measured.
// Above a tenth of one processor the numbers say little.
func quiet(results []*result) string {
	var others, took time.Duration
	for _, r := range results {
		for i := range r.samples {
			others += r.samples[i].othersCPU
			took += r.samples[i].took
		}
	}
	share := max(0, float64(others)/float64(max(1, took)))
	said := fmt.Sprintf("other processes used %.2f of %d processors during the rounds", share, runtime.NumCPU())
	if share > 0.1 {
		return said + ": the machine was not quiet, take the numbers as a hint only"
	}
	return said
}

// verdicts compares results with the targets of their cases.
func verdicts(results []*result) []verdict {
	var all []verdict
	for _, r := range results {
		if want, ok := r.load.ratios[r.side]; ok {
			all = append(all, judge(r.load.title+" "+r.side+", of direct", r.ratio(), "", want))
		}
		if want, ok := r.load.cpu[r.side]; ok {
			all = append(all, judge(r.load.title+" "+r.side+", proxy CPU per operation", r.proxyCPU(), "ms", want))
		}
	}
	return all
}

// targets prints measurements beside what they should reach.
func targets(w io.Writer, all []verdict) (reached int, err error) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measurement\tmeasured\ttarget\t")
	for _, v := range all {
		word := "missed"
		if v.reached {
			word = "reached"
			reached++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.what, strings.TrimSpace(number(v.got)+" "+v.unit), v.bound(), word)
	}
	return reached, t.Flush()
}

// lines prints each round in the form that benchstat reads, where rounds are
// repetitions (https://golang.org/design/14313-benchmark-format).
func lines(w io.Writer, results []*result) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/s3fence/s3fence/e2e/bench\n", runtime.GOOS, runtime.GOARCH)
	for _, r := range results {
		for i := range r.samples {
			s := &r.samples[i]
			fmt.Fprintf(w, "Benchmark%s/callers=%d/side=%s-%d\t%d\t%.0f ns/op\t%.1f ops/s\t%d p50-ns/op\t%d p99-ns/op\t%d client-cpu-ns/op",
				r.load.name, r.callers, r.side, runtime.GOMAXPROCS(0), s.ops, 1e9/s.rate, s.rate, s.p50.Nanoseconds(), s.p99.Nanoseconds(), perOpNs(s.clientCPU, s.ops))
			if r.side != "direct" {
				fmt.Fprintf(w, "\t%.4f ratio\t%d proxy-cpu-ns/op\t%d proxy-peak-B", r.ratios[i], perOpNs(s.proxyCPU, s.ops), s.peak)
			}
			fmt.Fprintln(w)
		}
	}
}

func perOpNs(d time.Duration, ops int) int64 { return d.Nanoseconds() / int64(max(1, ops)) }
