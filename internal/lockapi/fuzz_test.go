package lockapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/lockapi"
)

// FuzzCalls makes signed calls with arbitrary bodies and queries, over a state in
// memory. Each answer is one JSON object; a failure has a code and is never 500, which
// stands for what nobody thought of; of two fields of one name none is taken; a granted
// lease is on the scope that the body names, and no body grants anything outside of it.
func FuzzCalls(f *testing.F) {
	calls := [][2]string{
		{"POST", "locks/acquire"}, {"POST", "locks/renew"}, {"POST", "locks/release"}, {"POST", "locks/take"}, {"GET", "locks"},
		{"POST", "credentials"}, {"POST", "check"}, {"POST", "claims"}, {"GET", "claims"}, {"GET", "guards"}, {"POST", "guards"},
		{"PATCH", "guards"}, {"DELETE", "guards"}, {"GET", "scopes"}, {"POST", "scopes/raise"}, {"POST", "scopes/reset"}, {"GET", "events"},
	}
	for _, s := range []struct {
		call             byte
		query, key, body string
	}{
		{0, "", "", `{"scope":"s3://data/jobs/","owner":"ann@host","ttl":"30s"}`},
		{0, "", "k", `{"scope":"s3://data/jobs/","owner":"ann@host","ttl":"30s","ticket":"t","keep":"10s"}`},
		{0, "", "", `{"scope":"s3://data/jobs/","Scope":"s3://data/other/","ttl":"30s"}`},
		{1, "", "", `{"scope":"s3://data/jobs/","token":"34","ttl":"1m"}`},
		{2, "", "", `{"scope":"s3://data/jobs/","token":34}`},
		{3, "", "", `{"scope":"s3://data/jobs/","owner":"x","reason":"y"}`},
		{4, "prefix=s3://data/&after=s3://data/jobs/&limit=1", "", ""},
		{5, "", "", `{"scope":"s3://data/jobs/?generation=1","token":9223372036854775807}`},
		{6, "", "", `{"scope":"s3://data/jobs/","token":1e3}`},
		{7, "", "k", `{"job":"nightly","slot":"2026-01-02T00:00:00+01:00","owner":"a"}`},
		{8, "job=nightly&after=2026-01-02T00:00:00Z&limit=1000", "", ""},
		{10, "", "k", `{"pattern":"s3://data/*/x/","writes":"sealed","tokens":"required","issuer":"s3fence","max_jump":"5","lock_delay":"15s"}`},
		{11, "", "", `{"pattern":"s3://data/jobs/","tokens":"none","max_jump":null,"lock_delay":"0s"}`},
		{12, "pattern=s3://data/*/x/", "", ""},
		{14, "", "", `{"scope":"s3://data/jobs/","to":5,"reason":"\u0000"}`},
		{15, "", "", `{"scope":"s3://data/jobs/","reason":"r"}`},
		{16, "after=0&kind=grant,refused&since=2026-01-02T15:04:05Z&limit=10", "", ""},
		{0, "", "", "[]"}, {0, "", "", "null"}, {0, "", "", `{"scope":null}`}, {0, "", "", `{"ttl":"-9223372036854775808ns","scope":"s3://data/jobs/"}`},
		{0, "", "", strings.Repeat(`{"scope":`, 2000)}, {6, "", "", "{\"scope\":\"s3://data/\xff/\",\"token\":1}"},
	} {
		f.Add(s.call, s.query, s.key, s.body)
	}
	w := newWorld(f, func(o *lockapi.Options) { o.Logger = nil })
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	root := aws.Credentials{AccessKeyID: "root", SecretAccessKey: "root-secret"}
	do := func(t *testing.T, method, path, query, key, body string) *httptest.ResponseRecorder {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, method, "http://service.test/-/v1/"+path, bytes.NewBufferString(body))
		r.URL.RawQuery = query
		if key != "" {
			r.Header["Idempotency-Key"] = []string{key}
		}
		sum := sha256.Sum256([]byte(body))
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		if err := signer.SignHTTP(ctx, root, r, hex.EncodeToString(sum[:]), "s3", "us-east-1", time.Now()); err != nil {
			return nil
		}
		r.RequestURI = r.URL.RequestURI()
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		if ctx.Err() != nil {
			return nil // it waited, as it was asked to
		}
		return answer
	}
	f.Fuzz(func(t *testing.T, call byte, query, key, body string) {
		if _, err := url.ParseQuery(query); err != nil || len(body) > 128<<10 {
			return
		}
		// A guard to lock under; whatever the last input made of it.
		if got := do(t, "POST", "guards", "", "", `{"pattern":"s3://data/jobs/"}`); got != nil && got.Code >= 500 {
			t.Fatalf("the guard: %d %s", got.Code, got.Body)
		}
		c := calls[int(call)%len(calls)]
		answer := do(t, c[0], c[1], query, key, body)
		if answer == nil {
			return
		}
		var out map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil || out == nil {
			t.Fatalf("%s %s: %d is no JSON object: %s", c[0], c[1], answer.Code, answer.Body)
		}
		if answer.Code == http.StatusOK || answer.Code == http.StatusCreated {
			var fields map[string]json.RawMessage
			if c[0] != http.MethodGet && json.Unmarshal([]byte(body), &fields) == nil {
				var names []string
				d := json.NewDecoder(strings.NewReader(body))
				_, _ = d.Token()
				for d.More() {
					name, _ := d.Token()
					var value json.RawMessage
					_ = d.Decode(&value)
					names = append(names, strings.ToLower(name.(string)))
				}
				slices.Sort(names)
				if len(slices.Compact(slices.Clone(names))) != len(names) {
					t.Fatalf("%s %s took a field twice: %s", c[0], c[1], body)
				}
			}
			if c[1] == "locks/acquire" || c[1] == "locks/take" {
				sc, err := fence.ParseScope(out["scope"].(string))
				if err != nil || out["token"].(float64) < 1 || !strings.Contains(body, sc.Bucket()) {
					t.Fatalf("granted %v for %s", out, body)
				}
			}
			return
		}
		code, _ := out["code"].(string)
		message, _ := out["message"].(string)
		switch {
		case code == "" || message == "":
			t.Fatalf("%s %s ?%s %s: %d without code and message: %s", c[0], c[1], query, body, answer.Code, answer.Body)
		case answer.Code == http.StatusInternalServerError:
			t.Fatalf("%s %s ?%s %s: %s", c[0], c[1], query, body, answer.Body)
		case answer.Code < 400:
			t.Fatalf("%s %s: %d %s", c[0], c[1], answer.Code, answer.Body)
		}
	})
}
