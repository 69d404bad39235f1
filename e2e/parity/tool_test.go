package parity

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What compares is believed without a second look, so that it is under test itself.

func verdicts(o outcomes) map[string]verdict {
	m := map[string]verdict{}
	for test, out := range o {
		m[test] = out.verdict
	}
	return m
}

func TestReaders(t *testing.T) {
	t.Parallel()
	assert.Equal(t, map[string]verdict{"testA": pass, "testB": fail, "testC": skip, "testD": skip, "testE": fail, "testF": skip}, verdicts(readMinIO(strings.NewReader(`
{"parity":"begin","test":"testA"}
{"status":"PASS","function":"Put"}
{"parity":"end","test":"testA"}
{"parity":"begin","test":"testB"}
{"status":"PASS"}
{"status":"FAIL","message":"no","error":{"Code":"X"}}
{"status":"PASS"}
{"parity":"end","test":"testB"}
{"parity":"begin","test":"testC"}
{"parity":"end","test":"testC"}
{"parity":"begin","test":"testD"}
{"status":"NA","alert":"x is NotImplemented"}
{"parity":"end","test":"testD"}
{"parity":"begin","test":"testF"}
{"status":"NA"}
{"status":"PASS"}
{"parity":"end","test":"testF"}
{"parity":"begin","test":"testE"}
panic: elsewhere
`))))
	assert.Equal(t, map[string]verdict{"A": pass, "B": fail, "C": skip, "D": fail, "E": fail}, verdicts(readVersitygw(strings.NewReader(
		"PARITY begin A\n\x1b[36mRUN  \x1b[0mA\n\x1b[32mPASS \x1b[0mA\nPARITY end A\n"+
			"PARITY begin B\n\x1b[36mRUN  \x1b[0mB\n\x1b[31mFAIL \x1b[0mB: no\nPARITY error \"no\"\nPARITY end B\n"+
			"PARITY begin C\n\x1b[33mSKIP \x1b[0mC\nPARITY end C\n"+
			"PARITY begin D\n\x1b[36mRUN  \x1b[0mD\nPARITY error \"panic\"\nPARITY end D\n"+
			"PARITY begin E\n"))))
	assert.Equal(t, map[string]verdict{"TestP/A/x": pass, "TestP/A/y/z": fail, "TestP/B": fail}, verdicts(readGo(strings.NewReader(`
=== RUN   TestP
=== RUN   TestP/A
=== RUN   TestP/A/x
=== RUN   TestP/A/y
=== RUN   TestP/A/y/z
    drivertest.go:1: no
=== RUN   TestP/B
--- FAIL: TestP (0.10s)
    --- FAIL: TestP/A (0.10s)
        --- PASS: TestP/A/x (0.00s)
        --- FAIL: TestP/A/y (0.00s)
            --- FAIL: TestP/A/y/z (0.00s)
`))))
}

func TestJudge(t *testing.T) {
	t.Parallel()
	c := cell{suite: suites[0], store: "minio", side: none}
	rows := []row{
		{suite: "minio-go", test: "known", stores: []string{"minio"}, sides: []string{"none"}, reason: "why"},
		{suite: "minio-go", test: "stale", stores: []string{"minio"}, sides: []string{"none"}, reason: "why"},
		{suite: "minio-go", test: "new", stores: []string{"minio"}, sides: []string{"token"}, reason: "elsewhere"},
		{suite: "minio-go", test: "not run", stores: []string{"minio"}, sides: []string{"none"}, reason: "why"},
	}
	straight := outcomes{"known": {verdict: pass}, "stale": {verdict: pass}, "new": {verdict: pass}, "both": {verdict: fail}, "better": {verdict: fail}, "same": {verdict: pass}, "lost": {verdict: pass}}
	proxied := outcomes{"known": {verdict: skip}, "stale": {verdict: pass}, "new": {verdict: fail}, "both": {verdict: fail}, "better": {verdict: pass}, "same": {verdict: pass}}
	f := judge(c, straight, proxied, rows)
	assert.Equal(t, 1, f.same)
	assert.Equal(t, 1, f.failedBoth)
	assert.Len(t, f.explained, 1)
	assert.ElementsMatch(t, []string{"stale", "new", "better", "lost"}, f.suspects())
	again := f.suspects()
	// At the second look one of them is as it should be.
	proxied["lost"] = outcome{verdict: pass}
	f.confirm(judge(c, straight, proxied, rows), again)
	assert.ElementsMatch(t, []string{"stale", "new", "better"}, f.suspects())
	assert.Equal(t, 2, f.same)
}

// Every pair of side, transport and style is in a bounded run, for each suite and
// store.
func TestBoundedMatrixHasEveryPair(t *testing.T) {
	t.Parallel()
	type pair struct {
		suite, store string
		side         side
		a, b         string
	}
	got := map[pair]bool{}
	slices := map[string]map[int]bool{}
	for _, c := range matrix(true) {
		parts := strings.Split(c.name(), "/")
		got[pair{c.suite.name, c.store, c.side, parts[3], ""}] = true
		got[pair{c.suite.name, c.store, c.side, "", parts[4]}] = true
		got[pair{c.suite.name, c.store, "", parts[3], parts[4]}] = true
		if slices[c.suite.name] == nil {
			slices[c.suite.name] = map[int]bool{}
		}
		slices[c.suite.name][c.slice] = true
	}
	assert.Len(t, got, len(suites)*len(stores)*(3*2+3*2+2*2))
	assert.Len(t, slices["minio-go"], 12)
	assert.Len(t, slices["versitygw"], 12)
	assert.Len(t, matrix(false), len(suites)*len(stores)*len(sides)*4)
}

// The gate gives the token to what was signed rightly, and to nothing else.
func TestGateStampsWhatIsRight(t *testing.T) {
	t.Parallel()
	var got *http.Request
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = r
	}))
	defer behind.Close()
	target, err := url.Parse(behind.URL)
	require.NoError(t, err)
	unescaped := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }
	key := aws.Credentials{AccessKeyID: "parity", SecretAccessKey: "secret"}
	g := &gate{
		target: target, tokens: "required", accessKey: key.AccessKeyID, secretKey: key.SecretAccessKey, signer: v4.NewSigner(unescaped),
		transport: &http.Transport{}, fault: t.Errorf, held: map[string]int64{"data": 7},
	}
	defer g.transport.CloseIdleConnections()
	front := httptest.NewServer(g)
	defer front.Close()
	send := func(key aws.Credentials, path, hash string, change func(*http.Request)) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, front.URL+path, strings.NewReader("body"))
		require.NoError(t, err)
		req.Header.Set("X-Amz-Content-Sha256", hash)
		// A signer of its own: signers remember keys by the access key alone.
		require.NoError(t, v4.NewSigner(unescaped).SignHTTP(t.Context(), key, req, hash, "s3", "us-east-1", time.Now()))
		change(req)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
	}
	as := func(*http.Request) {}

	send(key, "/data/a%2Bb//c%20d?x-id=PutObject", "UNSIGNED-PAYLOAD", as)
	assert.Equal(t, "7", got.Header.Get("X-Fencing-Token"))
	assert.Contains(t, got.Header.Get("Authorization"), "x-fencing-token")
	assert.Equal(t, "/data/a%2Bb//c%20d?x-id=PutObject", got.RequestURI)
	assert.Equal(t, strings.TrimPrefix(front.URL, "http://"), got.Host)

	for name, bad := range map[string]func(){
		"another key": func() {
			send(aws.Credentials{AccessKeyID: "parity", SecretAccessKey: "x"}, "/data/k", "UNSIGNED-PAYLOAD", as)
		},
		"another path": func() { send(key, "/data/k", "UNSIGNED-PAYLOAD", func(r *http.Request) { r.URL.Path = "/data/l" }) },
		"a changed header": func() {
			send(key, "/data/k", "UNSIGNED-PAYLOAD", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "x") })
		},
		"signed chunks":     func() { send(key, "/data/k", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", as) },
		"no guarded bucket": func() { send(key, "/other/k", "UNSIGNED-PAYLOAD", as) },
		"no signature": func() {
			send(key, "/data/k", "UNSIGNED-PAYLOAD", func(r *http.Request) { r.Header.Del("Authorization") })
		},
	} {
		bad()
		assert.Empty(t, got.Header.Get("X-Fencing-Token"), name)
		assert.NotContains(t, got.Header.Get("Authorization"), "fencing", name)
	}

	presigned, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/data/k%20l?X-Amz-Expires=60", http.NoBody)
	require.NoError(t, err)
	address, _, err := v4.NewSigner(unescaped).PresignHTTP(t.Context(), key, presigned, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now())
	require.NoError(t, err)
	for u, want := range map[string]string{address: "7", strings.Replace(address, "k%20l", "m", 1): ""} {
		resp, err := http.Get(u)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, want, got.URL.Query().Get("X-Fencing-Token"))
	}
}
