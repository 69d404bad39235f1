package s3api

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
)

// deletes is a batch delete.
func deletes(bucket, carried string, keys ...string) call {
	var doc strings.Builder
	doc.WriteString("<Delete>")
	for _, k := range keys {
		fmt.Fprintf(&doc, "<Object><Key>%s</Key></Object>", k)
	}
	doc.WriteString("</Delete>")
	sum := md5.Sum([]byte(doc.String()))
	return call{method: "POST", target: "/" + bucket + "?delete", carried: carried, body: doc.String(),
		header: map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(sum[:])}}
}

// verdicts of a batch delete by key, "" for one that was deleted.
func verdicts(a answer) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split(a.body, "</Deleted>") {
		if _, key, ok := strings.Cut(part, "<Deleted><Key>"); ok {
			key, _, _ = strings.Cut(key, "</Key>")
			out[key] = ""
		}
	}
	for _, part := range strings.Split(a.body, "</Error>") {
		if _, rest, ok := strings.Cut(part, "<Error><Key>"); ok {
			key, _, _ := strings.Cut(rest, "</Key>")
			out[key] = answer{body: rest}.code()
		}
	}
	return out
}

// Inside the scope that the credentials carry, every request carries the token.
func TestCarriedInside(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	const good, stale = "s3://data/jobs/a/#34", "s3://data/jobs/a/#33"
	b.fake.grant("s3://data/jobs/a/", 33, false)
	b.call(t, call{method: "PUT", target: "/data/jobs/a/k", carried: stale, body: "33"})
	up := b.call(t, call{method: "POST", target: "/data/jobs/a/up?uploads", carried: stale})
	_, id, _ := strings.Cut(up.body, "<UploadId>")
	id, _, _ = strings.Cut(id, "</UploadId>")
	b.fake.grant("s3://data/jobs/a/", 34, false)
	own := "/data/jobs/a/up?uploadId=" + id
	for name, tc := range map[string]struct {
		call
		// good and stale are the statuses under either token.
		good, stale int
	}{
		"get":              {call{method: "GET", target: "/data/jobs/a/k"}, 200, 412},
		"head":             {call{method: "HEAD", target: "/data/jobs/a/k"}, 200, 412},
		"get presigned":    {call{method: "GET", target: "/data/jobs/a/k", presign: true}, 200, 412},
		"put":              {call{method: "PUT", target: "/data/jobs/a/new", body: "x"}, 200, 412},
		"put presigned":    {call{method: "PUT", target: "/data/jobs/a/new", body: "x", presign: true}, 200, 412},
		"put if absent":    {call{method: "PUT", target: "/data/jobs/a/new2", body: "x", header: map[string]string{"If-None-Match": "*"}}, 200, 403},
		"delete":           {call{method: "DELETE", target: "/data/jobs/a/none"}, 204, 412},
		"tags":             {call{method: "GET", target: "/data/jobs/a/k?tagging"}, 200, 412},
		"copy":             {call{method: "PUT", target: "/data/jobs/a/copy", header: map[string]string{"x-amz-copy-source": "/data/jobs/a/k"}}, 200, 412},
		"copy out":         {call{method: "PUT", target: "/plain/copy", header: map[string]string{"x-amz-copy-source": "/data/jobs/a/k"}}, 200, 412},
		"create upload":    {call{method: "POST", target: "/data/jobs/a/new3?uploads"}, 200, 412},
		"list":             {call{method: "GET", target: "/data?list-type=2&prefix=jobs/a/"}, 200, 412},
		"list, deeper":     {call{method: "GET", target: "/data?prefix=jobs/a/dir/k&delimiter=/"}, 200, 412},
		"list uploads":     {call{method: "GET", target: "/data?uploads&prefix=jobs/a/"}, 200, 412},
		"list its uploads": {call{method: "GET", target: "/data?uploads&prefix=jobs/a/up"}, 200, 412},
		// The upload is 33's: 34 may not touch it, and 33 may do no more than end it.
		"part":     {call{method: "PUT", target: own + "&partNumber=1", body: "x"}, 400, 412},
		"complete": {call{method: "POST", target: own, body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"}, 400, 412},
	} {
		t.Run(name, func(t *testing.T) {
			for carried, want := range map[string]int{good: tc.good, stale: tc.stale} {
				c := tc.call
				c.carried = carried
				got := b.call(t, c)
				if got.status != want {
					t.Errorf("%s: %d %s, want %d", carried, got.status, got.body, want)
				}
				if carried == stale && c.method != "HEAD" && got.code() != codeStale {
					t.Errorf("%s: %s", carried, got.code())
				}
				if carried == stale && want == 412 && got.header.Get("X-Fencing-Highest") != "34" {
					t.Errorf("headers %v", got.header)
				}
			}
		})
	}
	if got := verdicts(b.call(t, deletes("data", stale, "jobs/a/k", "jobs/a/none"))); fmt.Sprint(got) != "map[jobs/a/k:StaleFencingToken jobs/a/none:StaleFencingToken]" {
		t.Error(got)
	}
	if got := b.call(t, call{method: "DELETE", target: own, carried: stale}); got.status != 204 {
		t.Errorf("ending one's own upload: %d %s", got.status, got.body)
	}
}

// Outside of it: writes into another guarded scope want that one's token, and all
// else is as without a token.
func TestCarriedOutside(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	b.fake.grant("s3://data/jobs/a/", 35, true)
	const carried = "s3://data/jobs/a/#34" // stale, which must not matter here
	b.call(t, call{method: "PUT", target: "/data/jobs/b/k", carried: "s3://data/jobs/b/#40", body: "b"})
	b.call(t, call{method: "PUT", target: "/plain/k", body: "plain"})
	up := b.call(t, call{method: "POST", target: "/data/jobs/b/up?uploads", carried: "s3://data/jobs/b/#40"})
	_, id, _ := strings.Cut(up.body, "<UploadId>")
	id, _, _ = strings.Cut(id, "</UploadId>")
	for name, tc := range map[string]struct {
		call
		status int
		code   string
	}{
		"get in another scope":       {call{method: "GET", target: "/data/jobs/b/k"}, 200, ""},
		"head in another scope":      {call{method: "HEAD", target: "/data/jobs/b/k"}, 200, ""},
		"parts of another scope":     {call{method: "GET", target: "/data/jobs/b/up?uploadId=" + id}, 200, ""},
		"put into another scope":     {call{method: "PUT", target: "/data/jobs/b/k", body: "x"}, 403, codeMissing},
		"delete in another scope":    {call{method: "DELETE", target: "/data/jobs/b/k"}, 403, codeMissing},
		"upload into another scope":  {call{method: "POST", target: "/data/jobs/b/k?uploads"}, 403, codeMissing},
		"tags in another scope":      {call{method: "DELETE", target: "/data/jobs/b/k?tagging"}, 403, codeMissing},
		"copy into another scope":    {call{method: "PUT", target: "/data/jobs/b/c", header: map[string]string{"x-amz-copy-source": "/plain/k"}}, 403, codeMissing},
		"put, tokens optional":       {call{method: "PUT", target: "/data/free/k", body: "x"}, 403, codeMissing},
		"put, tokens none":           {call{method: "PUT", target: "/data/cas/k", body: "x"}, 200, ""},
		"put, external":              {call{method: "PUT", target: "/data/ext/k", body: "x"}, 403, codeMissing},
		"put with that one's token":  {call{method: "PUT", target: "/data/jobs/b/k", body: "x", header: map[string]string{"X-Fencing-Token": "40"}}, 200, ""},
		"put with a token of none":   {call{method: "PUT", target: "/plain/k", body: "x", header: map[string]string{"X-Fencing-Token": "34"}}, 400, codeInvalidToken},
		"list the bucket":            {call{method: "GET", target: "/data?list-type=2"}, 200, ""},
		"list the parent":            {call{method: "GET", target: "/data?list-type=2&prefix=jobs/"}, 200, ""},
		"list the name, no slash":    {call{method: "GET", target: "/data?list-type=2&prefix=jobs/a"}, 200, ""},
		"list another scope":         {call{method: "GET", target: "/data?list-type=2&prefix=jobs/b/"}, 200, ""},
		"list uploads of the bucket": {call{method: "GET", target: "/data?uploads"}, 200, ""},
		"head bucket":                {call{method: "HEAD", target: "/data"}, 200, ""},
		"list buckets":               {call{method: "GET", target: "/"}, 200, ""},
		"location":                   {call{method: "GET", target: "/data?location"}, 200, ""},
		"versioning":                 {call{method: "GET", target: "/data?versioning"}, 200, ""},
		"put outside guards":         {call{method: "PUT", target: "/plain/new", body: "x"}, 200, ""},
		"put beside guards":          {call{method: "PUT", target: "/data/jobs/k", body: "x"}, 200, ""},
		"get outside guards":         {call{method: "GET", target: "/plain/k"}, 200, ""},
		"list outside guards":        {call{method: "GET", target: "/plain?list-type=2"}, 200, ""},
		"upload outside guards":      {call{method: "POST", target: "/plain/up?uploads"}, 200, ""},
		"copy outside guards":        {call{method: "PUT", target: "/plain/copy", header: map[string]string{"x-amz-copy-source": "/data/jobs/b/k"}}, 200, ""},
		"copy into the scope":        {call{method: "PUT", target: "/data/jobs/a/c", header: map[string]string{"x-amz-copy-source": "/plain/k"}}, 412, codeStale},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.call
			c.carried = carried
			got := b.call(t, c)
			if got.status != tc.status || got.code() != tc.code {
				t.Errorf("%d %s, want %d %s\n%s", got.status, got.code(), tc.status, tc.code, got.body)
			}
			if tc.code == codeMissing && !strings.Contains(got.body, "s3://data/jobs/a/") {
				t.Errorf("the message does not say what the credentials carry: %s", got.body)
			}
		})
	}
	// With a token that counts: key by key.
	b.fake.grant("s3://data/jobs/a/", 35, false)
	got := verdicts(b.call(t, deletes("data", "s3://data/jobs/a/#35", "jobs/a/x", "jobs/b/k", "beside", "cas/k", "free/k")))
	if fmt.Sprint(got) != "map[beside: cas/k: free/k:MissingFencingToken jobs/a/x: jobs/b/k:MissingFencingToken]" {
		t.Error(got)
	}
	// A source outside is read as without a token.
	for _, source := range []string{"/plain/k", "/data/jobs/b/k"} {
		if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/c", carried: "s3://data/jobs/a/#35", header: map[string]string{"x-amz-copy-source": source}}); got.status != 200 {
			t.Errorf("copy of %s: %d %s", source, got.status, got.body)
		}
	}
}

// Where a guard was removed, or was added again with other scopes, what the
// credentials carry means nothing any more, and nothing goes on as if it did.
func TestCarriedScopeIsNoneNow(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	b.call(t, call{method: "PUT", target: "/plain/jobs/k", body: "x"})
	b.call(t, call{method: "PUT", target: "/plain/k", body: "x"})
	b.call(t, call{method: "PUT", target: "/data/cas/sub/k", body: "x"})
	const (
		gone   = "s3://plain/jobs/#34"
		wider  = "s3://data/#34"         // now there are scopes below it
		deeper = "s3://data/cas/sub/#34" // now a scope above it, with tokens: none
	)
	source := func(s string) map[string]string { return map[string]string{"x-amz-copy-source": s} }
	for name, tc := range map[string]struct {
		call
		status int
	}{
		"gone, put":                     {call{method: "PUT", target: "/plain/jobs/k", carried: gone, body: "y"}, 400},
		"gone, get":                     {call{method: "GET", target: "/plain/jobs/k", carried: gone}, 400},
		"gone, delete":                  {call{method: "DELETE", target: "/plain/jobs/k", carried: gone}, 400},
		"gone, list":                    {call{method: "GET", target: "/plain?list-type=2&prefix=jobs/", carried: gone}, 400},
		"gone, list uploads":            {call{method: "GET", target: "/plain?uploads&prefix=jobs/", carried: gone}, 400},
		"gone, copied from":             {call{method: "PUT", target: "/plain/copy", carried: gone, header: source("/plain/jobs/k")}, 400},
		"gone, copied from to a scope":  {call{method: "PUT", target: "/data/cas/copy", carried: gone, header: source("/plain/jobs/k")}, 400},
		"gone, beside it":               {call{method: "PUT", target: "/plain/k", carried: gone, body: "y"}, 200},
		"gone, list above it":           {call{method: "GET", target: "/plain?list-type=2", carried: gone}, 200},
		"wider, put":                    {call{method: "PUT", target: "/data/jobs/a/k", carried: wider, body: "y"}, 400},
		"wider, put, tokens none":       {call{method: "PUT", target: "/data/cas/k", carried: wider, body: "y"}, 400},
		"wider, put beside":             {call{method: "PUT", target: "/data/k", carried: wider, body: "y"}, 400},
		"wider, list":                   {call{method: "GET", target: "/data?list-type=2", carried: wider}, 400},
		"wider, head bucket":            {call{method: "HEAD", target: "/data", carried: wider}, 200},
		"deeper, put":                   {call{method: "PUT", target: "/data/cas/sub/k", carried: deeper, body: "y"}, 400},
		"deeper, get":                   {call{method: "GET", target: "/data/cas/sub/k", carried: deeper}, 400},
		"deeper, copied from":           {call{method: "PUT", target: "/plain/copy", carried: deeper, header: source("/data/cas/sub/k")}, 400},
		"deeper, beside it":             {call{method: "PUT", target: "/data/cas/k", carried: deeper, body: "y"}, 200},
		"deeper, copied from beside it": {call{method: "PUT", target: "/plain/copy", carried: deeper, header: source("/data/cas/k")}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "copied from beside") {
				b.call(t, call{method: "PUT", target: "/data/cas/k", body: "y"})
			}
			got := b.call(t, tc.call)
			if got.status != tc.status {
				t.Fatalf("%d %s, want %d", got.status, got.body, tc.status)
			}
			if tc.status == 400 && (got.code() != codeInvalidToken || !strings.Contains(got.body, "fetch new credentials")) {
				t.Error(got.body)
			}
		})
	}
	// In a batch each key is looked at, though one before it was of the same scope.
	for _, keys := range [][]string{{"cas/k", "cas/sub/k"}, {"cas/sub/k", "cas/k"}} {
		if got := verdicts(b.call(t, deletes("data", deeper, keys...))); fmt.Sprint(got) != "map[cas/k: cas/sub/k:InvalidFencingToken]" {
			t.Errorf("%v: %v", keys, got)
		}
	}
	if got := verdicts(b.call(t, deletes("plain", gone, "jobs/k", "other"))); fmt.Sprint(got) != "map[jobs/k:InvalidFencingToken other:]" {
		t.Error(got)
	}
	if got := b.call(t, call{method: "GET", target: "/data/cas/sub/k"}); got.body != "x" {
		t.Errorf("a write that must not happen: %q", got.body)
	}
}

// A header and the credentials say one thing, or the request is refused.
func TestCarriedAndHeader(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	b.fake.grant("s3://data/ext/", 7, false)
	const jobs, ext = "s3://data/jobs/a/#34", "s3://data/ext/?generation=1#7"
	for name, tc := range map[string]struct {
		target, carried, token, scope string
		status                        int
	}{
		"the same":                 {"/data/jobs/a/k", jobs, "34", "", 200},
		"the same, named":          {"/data/jobs/a/k", jobs, "34", "s3://data/jobs/a/", 200},
		"scope alone":              {"/data/jobs/a/k", jobs, "", "s3://data/jobs/a/", 200},
		"scope and its generation": {"/data/jobs/a/k", jobs, "", "s3://data/jobs/a/?generation=1", 200},
		"another token":            {"/data/jobs/a/k", jobs, "33", "", 400},
		"a higher token":           {"/data/jobs/a/k", jobs, "35", "", 400},
		"another scope":            {"/data/jobs/a/k", jobs, "34", "s3://data/jobs/b/", 400},
		"another scope alone":      {"/data/jobs/a/k", jobs, "", "s3://data/jobs/b/", 400},
		"another generation":       {"/data/jobs/a/k", jobs, "34", "s3://data/jobs/a/?generation=2", 400},
		"another generation alone": {"/data/jobs/a/k", jobs, "", "s3://data/jobs/a/?generation=2", 400},
		"external":                 {"/data/ext/k", ext, "", "", 200},
		"external, named":          {"/data/ext/k", ext, "7", "s3://data/ext/", 200},
		"external, generation":     {"/data/ext/k", ext, "", "s3://data/ext/?generation=3", 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := call{method: "PUT", target: tc.target, carried: tc.carried, body: "x", header: map[string]string{}}
			if tc.token != "" {
				c.header["X-Fencing-Token"] = tc.token
			}
			if tc.scope != "" {
				c.header["X-Fencing-Scope"] = tc.scope
			}
			got := b.call(t, c)
			if got.status != tc.status || tc.status == 400 && got.code() != codeInvalidToken {
				t.Errorf("%d %s, want %d", got.status, got.body, tc.status)
			}
		})
	}
}

// A token of a generation that was reset is refused with what to do, whatever its
// number (F8).
func TestCarriedOfAnotherGeneration(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	sc, err := fence.ParseScope("s3://data/ext/")
	if err != nil {
		t.Fatal(err)
	}
	b.fake.marks[sc] = fence.Mark{Generation: 2, Token: 7}
	for carried, status := range map[string]int{
		"s3://data/ext/?generation=1#7": 400, "s3://data/ext/?generation=1#99": 400, "s3://data/ext/?generation=1#3": 400,
		"s3://data/ext/?generation=2#7": 200, "s3://data/ext/?generation=2#6": 412, "s3://data/ext/?generation=3#7": 400,
	} {
		got := b.call(t, call{method: "PUT", target: "/data/ext/k", carried: carried, body: "x"})
		if got.status != status {
			t.Errorf("%s: %d %s", carried, got.status, got.body)
		}
		if status == 400 && (got.code() != codeInvalidToken || !strings.Contains(got.body, "is in generation 2") || !strings.Contains(got.body, "etch new credentials")) {
			t.Errorf("%s: %s", carried, got.body)
		}
	}
	if m := b.fake.marks[sc]; m.Token != 7 {
		t.Errorf("mark %v", m)
	}
}

// Without a lease on the guard list, what is inside the scope is refused, reads
// too; reads outside go on as without a token (F9).
func TestCarriedLeaseOver(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	const carried = "s3://data/jobs/a/#34"
	for _, target := range []string{"/plain/k", "/data/jobs/a/k"} {
		if got := b.call(t, call{method: "PUT", target: target, body: "x", carried: carried}); got.status != 200 {
			t.Fatal(got)
		}
	}
	b.clock.leap(2 * testLease)
	for _, tc := range []struct {
		call
		status int
	}{
		{call{method: "GET", target: "/data/jobs/a/k"}, 503},
		{call{method: "HEAD", target: "/data/jobs/a/k"}, 503},
		{call{method: "GET", target: "/data?list-type=2&prefix=jobs/a/x"}, 503},
		{call{method: "PUT", target: "/data/jobs/a/k", body: "y"}, 503},
		{call{method: "PUT", target: "/plain/k", body: "y"}, 503},
		{call{method: "GET", target: "/plain/k", header: map[string]string{"X-Fencing-Token": "34"}}, 503},
		{call{method: "GET", target: "/plain/k"}, 200},
		{call{method: "GET", target: "/data/jobs/b/k"}, 404},
		{call{method: "GET", target: "/data?list-type=2&prefix=jobs/"}, 200},
		{call{method: "HEAD", target: "/data"}, 200},
		{call{method: "GET", target: "/"}, 200},
	} {
		c := tc.call
		c.carried = carried
		if got := b.call(t, c); got.status != tc.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.target, got.status, got.code(), tc.status)
		}
	}
}

// What is told of a request names the credential, and the temporary key beside it.
func TestCarriedRecords(t *testing.T) {
	t.Parallel()
	b := newGuarded(t, func(o *Options) { o.Keyring = parents{o.Keyring} })
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", carried: "s3://data/jobs/a/#33", body: "x"}); got.status != http.StatusPreconditionFailed {
		t.Fatal(got)
	}
	r := b.last(t)
	if r.AccessKey != testKey || r.Session != carriedKey || r.Token != 33 {
		t.Errorf("record %+v", r)
	}
	if len(b.events) != 1 || b.events[0].AccessKey != testKey {
		t.Errorf("events %+v", b.events)
	}
	b.call(t, call{method: "GET", target: "/plain/none"})
	if r := b.last(t); r.AccessKey != testKey || r.Session != "" {
		t.Errorf("record %+v", r)
	}
}

// parents makes every principal act for the credential testKey.
type parents struct{ Keyring }

func (p parents) Principal(ctx context.Context, key, session string) (*auth.Principal, error) {
	who, err := p.Keyring.Principal(ctx, key, session)
	if err != nil {
		return nil, err
	}
	parent, err := p.Keyring.Principal(ctx, testKey, "")
	return &auth.Principal{Credential: parent.Credential, Carried: who.Carried}, err
}
