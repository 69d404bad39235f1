package s3api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
)

// newGuarded is a bench with bucket data: s3://data/jobs/*/ required,
// s3://data/free/ optional, s3://data/cas/ none, s3://data/ext/ external.
// Marks: jobs/a 34, jobs/b 40.
func newGuarded(t testing.TB, change ...func(*Options)) *bench {
	t.Helper()
	b := newBench(t, newStore(t, nil, "data", "plain"), []fence.Guard{
		guard(t, 1, "s3://data/jobs/*/"),
		guard(t, 2, "s3://data/free/", func(g *fence.Guard) { g.Tokens = fence.Optional }),
		guard(t, 3, "s3://data/cas/", func(g *fence.Guard) { g.Tokens = fence.None }),
		guard(t, 4, "s3://data/ext/", func(g *fence.Guard) { g.Issuer = fence.External }),
		guard(t, 5, "s3://data/here/", func(g *fence.Guard) { g.Writes = fence.InPlace }),
		guard(t, 6, "s3://data/leaving/", func(g *fence.Guard) { g.State = fence.Removing }),
		guard(t, 7, "s3://data/coming/", func(g *fence.Guard) { g.State = fence.Pending }),
	}, change...)
	b.fake.grant("s3://data/jobs/a/", 34, false)
	b.fake.grant("s3://data/jobs/b/", 40, false)
	return b
}

func TestTokenCarriers(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	const a = "/data/jobs/a/k"
	header := func(pairs ...string) map[string]string {
		h := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = pairs[i+1]
		}
		return h
	}
	tokenIs := func(n string) map[string]string { return header("X-Fencing-Token", n) }
	for name, tc := range map[string]struct {
		call
		status int
		code   string
	}{
		"header":                        {call{target: a, header: tokenIs("34")}, 200, ""},
		"header and its scope":          {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "s3://data/jobs/a/")}, 200, ""},
		"header, scope, generation":     {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "s3://data/jobs/a/?generation=1")}, 200, ""},
		"another generation":            {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "s3://data/jobs/a/?generation=2")}, 400, codeInvalidToken},
		"metadata":                      {call{target: a, header: header("x-amz-meta-fencing-token", "34")}, 200, ""},
		"metadata and scope":            {call{target: a, header: header("x-amz-meta-fencing-token", "34", "x-amz-meta-fencing-scope", "s3://data/jobs/a/")}, 200, ""},
		"query":                         {call{target: a + "?X-Fencing-Token=34", presign: true}, 200, ""},
		"query and scope":               {call{target: a + "?X-Fencing-Token=34&X-Fencing-Scope=" + escaped("s3://data/jobs/a/"), presign: true}, 200, ""},
		"query in lower case":           {call{target: a + "?x-fencing-token=34", presign: true}, 200, ""},
		"metadata moved into the query": {call{target: a + "?x-amz-meta-fencing-token=34", presign: true}, 200, ""},
		"header and the same metadata":  {call{target: a, header: header("X-Fencing-Token", "34", "x-amz-meta-fencing-token", "34")}, 200, ""},
		"carried":                       {call{target: a, carried: "s3://data/jobs/a/#34"}, 200, ""},
		"carried and the same header":   {call{target: a, carried: "s3://data/jobs/a/#34", header: tokenIs("34")}, 200, ""},

		"none":                           {call{target: a}, 403, codeMissing},
		"stale":                          {call{target: a, header: tokenIs("33")}, 412, codeStale},
		"stale and conditional":          {call{target: a, header: header("X-Fencing-Token", "33", "If-None-Match", "*")}, 403, codeStale},
		"stale and If-Match":             {call{target: a, header: header("X-Fencing-Token", "33", "If-Match", `"x"`)}, 403, codeStale},
		"carried stale":                  {call{target: a, carried: "s3://data/jobs/a/#33"}, 412, codeStale},
		"never granted":                  {call{target: a, header: tokenIs("99")}, 400, codeInvalidToken},
		"huge":                           {call{target: a, header: tokenIs("9223372036854775807")}, 400, codeInvalidToken},
		"too huge":                       {call{target: a, header: tokenIs("9223372036854775808")}, 400, codeInvalidToken},
		"zero":                           {call{target: a, header: tokenIs("0")}, 400, codeInvalidToken},
		"negative":                       {call{target: a, header: tokenIs("-1")}, 400, codeInvalidToken},
		"plus":                           {call{target: a, header: tokenIs("+34")}, 400, codeInvalidToken},
		"leading zero":                   {call{target: a, header: tokenIs("034")}, 400, codeInvalidToken},
		"two numbers":                    {call{target: a, header: tokenIs("34,34")}, 400, codeInvalidToken},
		"word":                           {call{target: a, header: tokenIs("mine")}, 400, codeInvalidToken},
		"header and other metadata":      {call{target: a, header: header("X-Fencing-Token", "34", "x-amz-meta-fencing-token", "33")}, 400, codeInvalidToken},
		"header and other query":         {call{target: a + "?X-Fencing-Token=33", header: tokenIs("34")}, 400, codeInvalidToken},
		"two scopes":                     {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "s3://data/jobs/a/", "x-amz-meta-fencing-scope", "s3://data/jobs/b/")}, 400, codeInvalidToken},
		"scope of another key":           {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "s3://data/jobs/b/")}, 400, codeInvalidToken},
		"no scope":                       {call{target: a, header: header("X-Fencing-Token", "34", "X-Fencing-Scope", "jobs")}, 400, codeInvalidToken},
		"scope without token":            {call{target: a, header: header("X-Fencing-Scope", "s3://data/jobs/a/")}, 400, codeInvalidToken},
		"unsigned header":                {call{target: a, unsigned: tokenIs("34")}, 400, codeInvalidToken},
		"unsigned scope":                 {call{target: a, header: tokenIs("34"), unsigned: header("X-Fencing-Scope", "s3://data/jobs/a/")}, 400, codeInvalidToken},
		"unsigned metadata":              {call{target: a, unsigned: header("x-amz-meta-fencing-token", "34")}, 403, "AccessDenied"},
		"carried and another header":     {call{target: a, carried: "s3://data/jobs/a/#34", header: tokenIs("33")}, 400, codeInvalidToken},
		"carried into another scope":     {call{target: "/data/jobs/b/k", carried: "s3://data/jobs/a/#34"}, 403, codeMissing},
		"carried into an optional scope": {call{target: "/data/free/k", carried: "s3://data/jobs/a/#34"}, 403, codeMissing},
		"carried into a free scope":      {call{target: "/data/cas/k", carried: "s3://data/jobs/a/#34"}, 200, ""},
		"carried outside guards":         {call{target: "/plain/k", carried: "s3://data/jobs/a/#34"}, 200, ""},
		"carried, its guard gone":        {call{target: "/plain/jobs/k", carried: "s3://plain/jobs/#34"}, 400, codeInvalidToken},
		"carried of a wider scope":       {call{target: a, carried: "s3://data/jobs/#34"}, 400, codeInvalidToken},
		"header outside guards":          {call{target: "/plain/k", header: tokenIs("34")}, 400, codeInvalidToken},
		"metadata outside guards":        {call{target: "/plain/k", header: header("x-amz-meta-fencing-token", "34")}, 400, codeInvalidToken},
		"beside every guard":             {call{target: "/data/jobs/k", header: tokenIs("34")}, 400, codeInvalidToken},
		"beside every guard, none":       {call{target: "/data/jobs/k"}, 200, ""},
		"read without":                   {call{method: "GET", target: "/data/jobs/a/absent"}, 404, "NoSuchKey"},
		"read, stale":                    {call{method: "GET", target: "/data/jobs/a/absent", header: tokenIs("33")}, 412, codeStale},
		"read outside, with token":       {call{method: "GET", target: "/plain/absent", header: tokenIs("33")}, 400, codeInvalidToken},
		"optional without":               {call{target: "/data/free/k"}, 200, ""},
		"none without":                   {call{target: "/data/cas/k"}, 200, ""},
		"none with":                      {call{target: "/data/cas/k", header: tokenIs("34")}, 400, codeInvalidToken},
		"external unnamed":               {call{target: "/data/ext/k", header: tokenIs("7")}, 400, codeInvalidToken},
		"external named":                 {call{target: "/data/ext/k", header: header("X-Fencing-Token", "7", "X-Fencing-Scope", "s3://data/ext/")}, 200, ""},
		"no way to write":                {call{target: "/data/here/k", header: tokenIs("7")}, 501, "NotImplemented"},
		"guard removing":                 {call{target: "/data/leaving/k", header: tokenIs("7")}, 503, codeSlowDown},
		"guard coming":                   {call{target: "/data/coming/k", header: tokenIs("7")}, 503, codeSlowDown},
		"guard coming, fenced read":      {call{method: "GET", target: "/data/coming/absent", header: tokenIs("7")}, 503, codeSlowDown},
		"guard coming, read":             {call{method: "GET", target: "/data/coming/absent"}, 404, "NoSuchKey"},
		"dotted key":                     {call{target: "/data/jobs/a/../k", header: tokenIs("34")}, 400, codeInvalidName},
		"doubled slash":                  {call{target: "/data/jobs//a/k", header: tokenIs("34")}, 400, codeInvalidName},
		"escaped dots":                   {call{target: "/data/x/%2e%2e/jobs/a/k"}, 400, codeInvalidName},
		"leading slash":                  {call{target: "/data//jobs/a/k"}, 400, codeInvalidName},
		"dotted key read":                {call{method: "GET", target: "/data/jobs/./k"}, 404, "NoSuchKey"},
		"reserved":                       {call{target: "/data/.s3fence/k"}, 403, "AccessDenied"},
		"reserved read":                  {call{method: "GET", target: "/data/.s3fence/k"}, 404, "NoSuchKey"},
		"version":                        {call{method: "GET", target: "/data/jobs/a/k?versionId=1"}, 404, "NoSuchVersion"},
		"version to delete":              {call{method: "DELETE", target: "/data/jobs/a/k?versionId=1", header: tokenIs("34")}, 404, "NoSuchVersion"},
		"the null version":               {call{method: "GET", target: "/data/jobs/a/absent?versionId=null"}, 404, "NoSuchKey"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.call
			if c.method == "" {
				c.method, c.body = "PUT", "content"
			}
			got := b.call(t, c)
			if got.status != tc.status || got.code() != tc.code {
				t.Errorf("%d %s, want %d %s\n%s", got.status, got.code(), tc.status, tc.code, got.body)
			}
			if tc.code == codeStale && (got.header.Get("X-Fencing-Highest") != "34" || got.header.Get("X-Fencing-Scope") != "s3://data/jobs/a/") {
				t.Errorf("headers %v", got.header)
			}
			if tc.status == 503 && got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Kind != events.Refused || e.Code == "" || e.RequestID == "" {
			t.Errorf("event %+v", e)
		}
	}
	if len(b.events) < 30 {
		t.Errorf("%d refusals were told", len(b.events))
	}
}

// The token is taken off the metadata: it belongs to the request, not to the
// object.
func TestTokenIsNotStored(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: map[string]string{"x-amz-meta-fencing-token": "34", "x-amz-meta-colour": "blue"}})
	if got.status != 200 || got.header.Get("X-Fencing-Highest") != "34" || got.header.Get("X-Fencing-Scope") != "s3://data/jobs/a/" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	p := b.fake.puts[0]
	if len(p.Meta) != 1 || p.Meta["colour"] != "blue" || p.Request.Token != 34 || p.Caller != testKey {
		t.Errorf("put %+v", p)
	}
	got = b.call(t, call{method: "PUT", target: "/plain/k", body: "x", header: map[string]string{"x-amz-meta-colour": "blue"}})
	if got.status != 200 || got.header.Get("X-Fencing-Highest") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// What is known to be stale is refused before the client is asked for its body
// (F3 at no cost); what is admitted is asked.
func TestStaleIsRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	b.fake.grant("s3://data/jobs/a/", 34, true)
	for name, tc := range map[string]struct {
		call
		want []string
	}{
		"stale":     {call{target: "/data/jobs/a/k", header: map[string]string{"X-Fencing-Token": "33"}}, []string{"412"}},
		"carried":   {call{target: "/data/jobs/a/k", carried: "s3://data/jobs/a/#33"}, []string{"412"}},
		"part":      {call{target: "/data/jobs/a/k?partNumber=1&uploadId=u", header: map[string]string{"X-Fencing-Token": "33"}}, []string{"412"}},
		"malformed": {call{target: "/data/jobs/a/k", header: map[string]string{"X-Fencing-Token": "x"}}, []string{"400"}},
		"reserved":  {call{target: "/data/.s3fence/k"}, []string{"403"}},
		"no right":  {call{target: "/data/k", key: readerKey}, []string{"403"}},
		"good":      {call{target: "/data/jobs/a/k", header: map[string]string{"X-Fencing-Token": "34"}}, []string{"100", "200"}},
		"plain":     {call{target: "/plain/k"}, []string{"100", "200"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.call
			c.method, c.body = "PUT", "content"
			got := b.raw(t, c)
			var codes []string
			for line := range strings.Lines(got) {
				codes = append(codes, strings.Fields(line)[1])
			}
			if fmt.Sprint(codes) != fmt.Sprint(tc.want) {
				t.Errorf("%q, want %v", got, tc.want)
			}
		})
	}
}

// Once the lease on the guard list is over, whatever could write is refused and
// unfenced reads go on (F9).
func TestLeaseOver(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	if got := b.call(t, call{method: "PUT", target: "/plain/k", body: "x"}); got.status != 200 {
		t.Fatal(got)
	}
	b.clock.leap(2 * testLease)
	for _, tc := range []struct {
		call
		status int
	}{
		{call{method: "PUT", target: "/plain/k", body: "y"}, 503},
		{call{method: "DELETE", target: "/plain/k"}, 503},
		{call{method: "POST", target: "/plain?delete", body: `<Delete><Object><Key>k</Key></Object></Delete>`}, 503},
		{call{method: "PUT", target: "/data/jobs/a/k", body: "y", header: map[string]string{"X-Fencing-Token": "34"}}, 503},
		{call{method: "GET", target: "/data/jobs/a/k", header: map[string]string{"X-Fencing-Token": "34"}}, 503},
		{call{method: "PUT", target: "/data/free/k", body: "y"}, 503},
		{call{method: "PUT", target: "/data/cas/k", body: "y"}, 503},
		{call{method: "DELETE", target: "/data/free/k"}, 503},
		{call{method: "PUT", target: "/plain2"}, 503},
		{call{method: "GET", target: "/plain/k"}, 200},
		{call{method: "GET", target: "/plain?list-type=2"}, 200},
	} {
		if got := b.call(t, tc.call); got.status != tc.status || tc.status == 503 && got.code() != codeUnavailable {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.target, got.status, got.code(), tc.status)
		}
	}
	if o := b.call(t, call{method: "GET", target: "/plain/k"}); o.body != "x" {
		t.Errorf("a mutation took effect without a lease: %q", o.body)
	}
}

func TestRetryIDs(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	for _, h := range []map[string]string{{"Idempotency-Key": "one", "Amz-Sdk-Invocation-Id": "two"}, {"Amz-Sdk-Invocation-Id": "two"}, {}, {"Amz-Sdk-Invocation-Id": strings.Repeat("x", maxInvocation+1)}} {
		h["X-Fencing-Token"] = "34"
		if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: h}); got.status != http.StatusOK {
			t.Fatal(got)
		}
	}
	var ids []string
	for _, p := range b.fake.puts {
		id := p.RetryID
		if p.Named != nil {
			id += "named"
		}
		ids = append(ids, id)
	}
	if want := []string{"named", "two", "", ""}; fmt.Sprint(ids) != fmt.Sprint(want) {
		t.Errorf("retry ids %q, want %q", ids, want)
	}
}

// Per request there is one record, and it tells what the client was told.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "12345", header: map[string]string{"X-Fencing-Token": "33"}})
	r := b.last(t)
	if r.Operation != "PutObject" || r.Status != 412 || r.Code != codeStale || r.Scope.String() != "s3://data/jobs/a/" || r.Token != 33 || r.Highest != 34 || r.BytesIn != 5 || r.BytesOut == 0 || r.AccessKey != testKey {
		out, _ := json.Marshal(r)
		t.Errorf("record %s", out)
	}
	if len(b.records) != 1 || len(b.events) != 1 {
		t.Errorf("%d records, %d events", len(b.records), len(b.events))
	}
}

func TestPanicIs500(t *testing.T) {
	t.Parallel()
	b := newGuarded(t, func(o *Options) { o.Reader = panics{} })
	got := b.call(t, call{method: "GET", target: "/data/jobs/a/k"})
	if got.status != 500 || got.code() != "InternalError" || got.header.Get("X-Amz-Request-Id") == "" {
		t.Errorf("%+v", got)
	}
	if r := b.last(t); r.Status != 500 || len(b.records) != 1 {
		t.Errorf("record %+v", r)
	}
}

type panics struct{ guarded.Reader }

// Who may only read cannot raise the mark of an external issuer, and with it make
// the holder stale (F8); under the mark as it is, it reads.
func TestReadersRaiseNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), []fence.Guard{guard(t, 1, "s3://data/open/", func(g *fence.Guard) { g.Issuer = fence.External })})
	under := func(key, method, token string) call {
		return call{method: method, target: "/data/open/k", key: key, body: map[string]string{"PUT": "content"}[method],
			header: map[string]string{"X-Fencing-Token": token, "X-Fencing-Scope": "s3://data/open/"}}
	}
	for _, tc := range []struct {
		call   call
		status int
	}{
		{under(testKey, "PUT", "7"), 200},
		{under(readerKey, "GET", "7"), 200},
		{under(readerKey, "GET", "8"), 400},
		{under(testKey, "PUT", "7"), 200},
		{under(testKey, "GET", "8"), 200},
		{under(testKey, "PUT", "7"), 412},
	} {
		if got := b.call(t, tc.call); got.status != tc.status {
			t.Errorf("%s under %s by %s: %d, want %d\n%s", tc.call.method, tc.call.header["X-Fencing-Token"], tc.call.key, got.status, tc.status, got.body)
		}
	}
}
