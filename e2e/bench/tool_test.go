//go:build bench

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/sigv4"
)

// What a benchmark prints is believed without a second look, so that its own
// arithmetic is under test.

func TestQuantilesAndMedians(t *testing.T) {
	assert.Equal(t, 0, quantile([]int(nil), 0.5))
	assert.Equal(t, 7, quantile([]int{7}, 0.99))
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	assert.Equal(t, 50, quantile(hundred, 0.50))
	assert.Equal(t, 99, quantile(hundred, 0.99))
	assert.Zero(t, median(nil))
	assert.InDelta(t, 2.0, median([]float64{3, 1, 2}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 0)
}

func TestStatOfAProcess(t *testing.T) {
	got, err := statTimes("12 (a) b) (c) S 1 12 12 0 -1 4194304 1 2 3 4 250 50 7 8 20 0 1 0 99 0 0")
	require.NoError(t, err)
	assert.Equal(t, 3*time.Second, got)
	for _, bad := range []string{"", "12 (x", "12 (x) S 1 2", "12 (x) S 1 12 12 0 -1 4194304 1 2 3 4 a 50 7"} {
		_, err := statTimes(bad)
		require.Error(t, err, bad)
	}
	used, err := processTime(os.Getpid())
	require.NoError(t, err)
	own, err := ownTime()
	require.NoError(t, err)
	assert.InDelta(t, own.Seconds(), used.Seconds(), 0.2, "/proc and getrusage disagree about this process")
}

func TestTimeOfTheMachine(t *testing.T) {
	got, err := machineTime("cpu  100 10 50 9000 800 5 6 29 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	require.NoError(t, err)
	assert.Equal(t, 2*time.Second, got)
	_, err = machineTime("intr 1\n")
	require.Error(t, err)
	before, err := machine()
	require.NoError(t, err)
	assert.Positive(t, before)
}

func TestMemoryOfAProcess(t *testing.T) {
	n, err := statusBytes("Name:\tx\nVmHWM:\t     100 kB\nVmRSS:\t      64 kB\n", "VmRSS")
	require.NoError(t, err)
	assert.EqualValues(t, 64<<10, n)
	_, err = statusBytes("Name:\tVmRSS: 1 kB\n", "VmRSS")
	require.Error(t, err)

	// The cases themselves may have run in this process before.
	require.NoError(t, resetPeak(os.Getpid()))
	_, before, err := residentMemory(os.Getpid())
	require.NoError(t, err)
	grown := bytes.Repeat([]byte{1}, 64*mib)
	_, peak, err := residentMemory(os.Getpid())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, peak, before+32*mib)
	assert.Len(t, grown, 64*mib)
}

func TestTargetsAreJudgedBothWays(t *testing.T) {
	for _, c := range []struct {
		got  float64
		want target
		ok   bool
	}{
		{0.75, least(0.75), true}, {0.74, least(0.75), false}, {0.35, most(0.35), true}, {0.36, most(0.35), false},
	} {
		assert.Equal(t, c.ok, judge("x", c.got, "", c.want).reached, "%v against %v", c.got, c.want)
	}
	var out strings.Builder
	reached, err := targets(&out, []verdict{judge("a", 1, "ms", most(2)), judge("b", 3, "ms", most(2))})
	require.NoError(t, err)
	assert.Equal(t, 1, reached)
	assert.Regexp(t, `a +1\.00 ms +≤ 2\.00 ms +reached\nb +3\.00 ms +≤ 2\.00 ms +missed`, out.String())
}

func TestMetricsOfPackageBenchmarks(t *testing.T) {
	text := "pkg: x\nBenchmarkCommit-2 \t 1000\t 81234 ns/op\t 12310 commits/s\t 10 B/op\nBenchmarkCommitHot-2\t1\t5 ns/op\n"
	v, ok := metric(text, "BenchmarkCommit", "commits/s")
	assert.True(t, ok)
	assert.InDelta(t, 12310.0, v, 0)
	_, ok = metric(text, "BenchmarkCom", "ns/op")
	assert.False(t, ok, "a name that only begins so")
}

func TestLinesAreWhatBenchstatReads(t *testing.T) {
	r := &result{load: loads()[0], side: "sealed", callers: 16, ratios: []float64{0.5},
		samples: []sample{{ops: 100, rate: 1000, p50: time.Millisecond, p99: 2 * time.Millisecond, proxyCPU: 10 * time.Millisecond, peak: 7}}}
	var out strings.Builder
	lines(&out, []*result{r})
	assert.Regexp(t, `(?m)^BenchmarkPut4KiB/callers=16/side=sealed-\d+\t100\t1000000 ns/op\t1000\.0 ops/s\t1000000 p50-ns/op\t2000000 p99-ns/op\t.*0\.5000 ratio\t100000 proxy-cpu-ns/op\t7 proxy-peak-B$`, out.String())
}

// The client sends what a verifier of signatures takes, body and token included.
func TestShotsAreSignedAndSentWhole(t *testing.T) {
	verifier := sigv4.NewVerifier(sigv4.Options{Region: region, Credentials: sigv4.StaticCredentials{"k": "s"}})
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed, err := verifier.Verify(r)
		if err != nil || signed.SignedHeader("X-Fencing-Token") == nil {
			http.Error(w, fmt.Sprint(err), http.StatusForbidden)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		bodies = append(bodies, r.Method+" "+r.URL.RequestURI()+" "+string(body)+" "+r.Header.Get("X-Fencing-Token"))
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(server.Close)
	e := &endpoint{addr: server.Listener.Addr().String(), creds: aws.Credentials{AccessKeyID: "k", SecretAccessKey: "s"}, bucket: "b", prefix: "hot/", token: "34"}
	w := newWire(e.addr)
	t.Cleanup(w.close)
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		var body []byte
		if method == http.MethodPut {
			body = []byte("sent")
		}
		s, err := e.object(t.Context(), method, "x y", body, time.Now())
		require.NoError(t, err)
		n, err := w.send(t.Context(), &s)
		require.NoError(t, err)
		assert.EqualValues(t, len("answer"), n)
	}
	assert.Equal(t, []string{"PUT /b/hot/x%20y sent 34", "GET /b/hot/x%20y  34"}, bodies)

	s, err := e.object(t.Context(), http.MethodGet, "x", nil, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	_, err = w.send(t.Context(), &s)
	require.ErrorContains(t, err, "status 403")
}

func TestRoundsCountEveryRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	t.Cleanup(server.Close)
	w := newWire(server.Listener.Addr().String())
	t.Cleanup(w.close)
	e := &endpoint{addr: w.addr, bucket: "b"}
	s, err := e.object(context.Background(), http.MethodGet, "x", nil, time.Now())
	require.NoError(t, err)
	var c caller
	start := time.Now()
	c.run(t.Context(), w, []shot{s, s}, start, 50*time.Millisecond)
	require.NoError(t, c.err)
	assert.NotEmpty(t, c.times)
	var sum time.Duration
	for _, d := range c.times {
		sum += d
	}
	assert.Equal(t, c.took, sum, "time between requests is nobody's")
	assert.GreaterOrEqual(t, c.took, 50*time.Millisecond)
}
