package lockapi_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// mayCall says which right each call needs on the place that it names; any one of
// several is enough. It is written from what the calls do, not from the routes. Zero
// is a call that everybody may make, whose answer has what the caller may see.
var mayCall = map[string]auth.Right{
	"POST locks/acquire": auth.Lock, "POST locks/renew": auth.Lock, "POST locks/release": auth.Lock,
	"POST locks/take": auth.Admin, "POST scopes/raise": auth.Admin, "POST scopes/reset": auth.Admin,
	"POST check": auth.All, "POST credentials": auth.All,
	"POST claims": auth.Lock, "GET claims": auth.All,
	"POST guards": auth.Admin, "PATCH guards": auth.Admin, "DELETE guards": auth.Admin,
	"POST guards/export": auth.Admin,
	"GET guards":         0, "GET locks": 0, "GET scopes": 0, "GET events": 0, "GET ": 0,
}

// fieldsOf are what the bodies of calls have beside their scope.
var fieldsOf = map[string]string{
	"locks/acquire": `"ttl":"60s"`, "locks/renew": `"token":7,"ttl":"60s"`, "locks/release": `"token":7`, "locks/take": `"ttl":"60s","reason":"r"`,
	"scopes/raise": `"to":1,"reason":"r"`, "scopes/reset": `"reason":"r"`, "check": `"token":7`, "credentials": `"token":7`,
}

// people gives a world other credentials. The secret of each is its access key and
// "-secret".
func people(t *testing.T, creds ...auth.Credential) func(*lockapi.Options) {
	t.Helper()
	creds = slices.Clone(creds)
	for i := range creds {
		creds[i].SecretKey = creds[i].AccessKey + "-secret"
	}
	keys, err := auth.NewKeyring(creds)
	require.NoError(t, err)
	ring, err := session.New(keys, session.Options{Deployment: "test"})
	require.NoError(t, err)
	return func(o *lockapi.Options) {
		o.Verifier, o.Principals, o.Sessions = sigv4.NewVerifier(sigv4.Options{Credentials: source{ring}}), ring, ring
	}
}

// signedCall sends a call as somebody and returns status and body.
func (w *world) signedCall(who, method, path, body string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+"/-/v1/"+path, strings.NewReader(body))
	require.NoError(w.t, err)
	sum := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	require.NoError(w.t, v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: who, SecretAccessKey: who + "-secret"}, req, hex.EncodeToString(sum[:]), "s3", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(text)
}

func codeOf(body string) string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(body), &e)
	return e.Code
}

// Each call under each right, in each place: allowed if the table above says so, and
// only then; who is refused is told the same whether there is anything or not.
func TestRightsOfEveryCall(t *testing.T) {
	t.Parallel()
	creds := []auth.Credential{
		{AccessKey: "root", Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		{AccessKey: "nothing"},
		{AccessKey: "unfenced", Unfenced: true},
		{AccessKey: "elsewhere", Grants: []auth.Grant{{Bucket: "other", Rights: auth.All}, {Bucket: "dat", Rights: auth.All}}},
		{AccessKey: "beside", Grants: []auth.Grant{{Bucket: "data", Prefix: "jobs/b/", Rights: auth.All}, {Bucket: "data", Prefix: "jobs/a/x", Rights: auth.All}}},
	}
	has := map[string]auth.Right{}
	for r := auth.Read; r <= auth.Admin; r <<= 1 {
		for place, g := range map[string]auth.Grant{
			"anywhere": {Bucket: auth.Anywhere, Rights: r}, "bucket": {Bucket: "data", Rights: r},
			"above": {Bucket: "data", Prefix: "jo", Rights: r}, "scope": {Bucket: "data", Prefix: "jobs/a/", Rights: r},
			"not": {Bucket: "data", Rights: auth.All &^ r},
		} {
			name := place + "-" + r.String()
			creds = append(creds, auth.Credential{AccessKey: name, Grants: []auth.Grant{g}})
			has[name] = g.Rights
		}
	}
	w := newWorld(t, people(t, creds...))
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: "s3://data/jobs/a/"})
	require.NoError(t, err)
	code, _ := w.signedCall("root", "POST", "locks/acquire", `{"scope":"s3://data/jobs/a/","owner":"root","ttl":"60s"}`)
	require.Equal(t, 200, code)
	_, index, _ := w.raw("GET", "/-/v1/", "")
	var calls struct {
		Calls []struct{ Method, Path string }
	}
	require.NoError(t, json.Unmarshal([]byte(index), &calls))
	require.GreaterOrEqual(t, len(calls.Calls), 15)
	asked := 0
	for _, call := range calls.Calls {
		path := strings.TrimPrefix(call.Path, lockapi.Prefix)
		need, specified := mayCall[call.Method+" "+path]
		if !assert.True(t, specified, "%s %s: nobody has said who may call it", call.Method, call.Path) || need == 0 {
			continue
		}
		for _, c := range creds[1:] {
			var codes []string
			for _, place := range []string{"s3://data/jobs/a/", "s3://data/jobs/a/absent/"} {
				body, target := fmt.Sprintf(`{"scope":%q,%s}`, place, fieldsOf[path]), path
				switch path {
				case "guards", "guards/export":
					body = fmt.Sprintf(`{"pattern":%q}`, place)
				case "claims":
					body = fmt.Sprintf(`{"job":%q,"slot":"2026-01-02T15:04:05Z"}`, place+"j")
					if call.Method == http.MethodGet {
						target, body = "claims?job="+place+"j", ""
					}
				}
				status, answer := w.signedCall(c.AccessKey, call.Method, target, body)
				asked++
				got := codeOf(answer)
				codes = append(codes, fmt.Sprint(status, got))
				switch may := has[c.AccessKey]&need != 0; {
				case may && got == "AccessDenied":
					t.Errorf("%s %s as %s on %s is refused: %s", call.Method, path, c.AccessKey, place, answer)
				case may && got == "BadRequest":
					t.Errorf("%s %s as %s: the test asks wrongly: %s", call.Method, path, c.AccessKey, answer)
				case !may && (status != http.StatusForbidden || got != "AccessDenied"):
					t.Errorf("%s %s as %s on %s: %d %s", call.Method, path, c.AccessKey, place, status, answer)
				}
			}
			if has[c.AccessKey]&need == 0 && codes[0] != codes[1] {
				t.Errorf("%s %s as %s is told whether there is anything: %v", call.Method, path, c.AccessKey, codes)
			}
		}
	}
	t.Logf("%d calls", asked)
	for call := range mayCall {
		method, path, _ := strings.Cut(call, " ")
		assert.True(t, path == "" || strings.Contains(index, fmt.Sprintf("%q", lockapi.Prefix+path)) && strings.Contains(index, fmt.Sprintf("%q", method)), "%s is specified and does not exist", call)
	}
}

// Lists show what the caller may see, whatever they are asked with.
func TestListsShowNoMoreThanOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people(t,
		auth.Credential{AccessKey: "root", Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		auth.Credential{AccessKey: "tenant", Grants: []auth.Grant{{Bucket: "data", Prefix: "tenants/t/", Rights: auth.Read | auth.Write | auth.Lock}}},
		auth.Credential{AccessKey: "nothing"},
	))
	for _, pattern := range []string{"s3://data/tenants/*/", "s3://data/secret-project/", "s3://vault/"} {
		_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: pattern})
		require.NoError(t, err)
	}
	for _, scope := range []string{"s3://data/tenants/t/", "s3://data/tenants/secret-other/", "s3://data/tenants/t2-secret/", "s3://data/secret-project/", "s3://vault/"} {
		status, body := w.signedCall("root", "POST", "locks/acquire", fmt.Sprintf(`{"scope":%q,"owner":"secret-owner","ttl":"60s"}`, scope))
		require.Equal(t, 200, status, body)
	}
	status, body := w.signedCall("root", "POST", "claims", `{"job":"s3://data/secret-project/job","slot":"2026-01-02T15:04:05Z","owner":"secret-owner"}`)
	require.Equal(t, 201, status, body)
	for _, path := range []string{
		"locks", "scopes", "locks?limit=1", "locks?prefix=s3://data/tenants/", "locks?prefix=s3://data/tenants/secret", "locks?prefix=s3://v", "locks?after=s3://data/tenants/t/",
		"locks?after=s3://data/secret", "locks?prefix=s3://data/secret-project/", "guards", "events", "events?after=0", "events?after=0&limit=1", "events?prefix=s3://data/secret-project/",
		"events?after=0&kind=grant", "claims?job=s3://data/secret-project/job", "claims?job=s3://data/", "claims?job=s3://data", "claims?job=s3://vault/x",
	} {
		_, theirs := w.signedCall("tenant", "GET", path, "")
		asked := strings.Contains(path, "secret") // then the refusal may repeat it
		if !asked {
			assert.NotContains(t, theirs, "secret-other", path)
			assert.NotContains(t, theirs, "secret-project", path)
		}
		assert.NotContains(t, theirs, "t2-secret", path)
		assert.NotContains(t, strings.ReplaceAll(theirs, "s3://vault/x", ""), "vault", path)
		_, none := w.signedCall("nothing", "GET", path, "")
		if codeOf(none) == "" {
			assert.NotContains(t, none, "s3://", path)
			assert.NotContains(t, none, "secret-owner", path)
		}
	}
	_, guards := w.signedCall("tenant", "GET", "guards", "")
	assert.Contains(t, guards, "s3://data/tenants/*/")
}
