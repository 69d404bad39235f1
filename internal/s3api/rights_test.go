package s3api

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// withKeys gives a bench other credentials, all with the secret [testSecret].
func withKeys(t testing.TB, creds ...auth.Credential) func(*Options) {
	t.Helper()
	creds = slices.Clone(creds)
	for i := range creds {
		creds[i].SecretKey = testSecret
	}
	keyring, err := auth.NewKeyring(creds)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.Keyring, o.Verifier = ring{keyring}, sigv4.NewVerifier(sigv4.Options{Credentials: ring{keyring}})
	}
}

// needed says who may do an operation, in words of its own: it is written from what
// each operation does, and is not to be derived from the table.
type needed struct {
	// any one of these rights is enough …
	any auth.Right
	// … on the key, on all keys under the prefix that is listed, on the whole
	// bucket, or anywhere in the bucket.
	on string
}

// specification is every operation that somebody may do, but those whose targets
// are several: CopyObject and UploadPartCopy stand for their destination here.
var specification = func() map[string]needed {
	const anything = auth.Read | auth.Write | auth.Lock | auth.Admin
	spec := map[string]needed{
		"ListObjects": {auth.Read, "prefix"}, "ListObjectsV2": {auth.Read, "prefix"}, "ListObjectVersions": {auth.Read, "prefix"},
		"ListMultipartUploads": {auth.Read, "prefix"},
		"HeadBucket":           {anything, "some"}, "GetBucketLocation": {anything, "some"},
		"GetBucketVersioning": {anything, "some"}, "GetObjectLockConfiguration": {anything, "some"},
		"PutBucketVersioning": {auth.Admin, "bucket"}, "PutObjectLockConfiguration": {auth.Admin, "bucket"},
		"DeleteBucket": {auth.Admin | auth.Write, "bucket"}, "CreateBucket": {auth.Admin | auth.Write, "bucket"},
	}
	for _, name := range strings.Fields(`GetObject HeadObject GetObjectAttributes GetObjectTagging GetObjectAcl GetObjectLegalHold
		GetObjectRetention GetObjectTorrent SelectObjectContent`) {
		spec[name] = needed{auth.Read, "key"}
	}
	for _, name := range strings.Fields(`PutObject DeleteObject CopyObject CreateMultipartUpload UploadPart UploadPartCopy
		CompleteMultipartUpload AbortMultipartUpload ListParts PutObjectTagging DeleteObjectTagging PutObjectAcl PutObjectLegalHold
		PutObjectRetention RestoreObject`) {
		spec[name] = needed{auth.Write, "key"}
	}
	// Verbs of the settings of a bucket: G is Get, P Put, D Delete, L List.
	for _, s := range strings.Fields(`BucketAccelerateConfiguration:GP BucketAbac:GP BucketAcl:GP BucketAnalyticsConfiguration:GPDL BucketCors:GPD
		BucketEncryption:GPD BucketIntelligentTieringConfiguration:GPDL BucketInventoryConfiguration:GPDL BucketLifecycleConfiguration:GP BucketLifecycle:D BucketLogging:GP
		BucketMetricsConfiguration:GPDL BucketNotificationConfiguration:GP BucketOwnershipControls:GPD BucketPolicy:GPD BucketPolicyStatus:G
		PublicAccessBlock:GPD BucketReplication:GPD BucketRequestPayment:GP BucketTagging:GPD BucketWebsite:GPD`) {
		name, verbs, _ := strings.Cut(s, ":")
		for _, v := range verbs {
			switch v {
			case 'G':
				spec["Get"+name] = needed{auth.Read | auth.Admin, "bucket"}
			case 'L':
				spec["List"+name+"s"] = needed{auth.Read | auth.Admin, "bucket"}
			case 'P':
				spec["Put"+name] = needed{auth.Admin, "bucket"}
			case 'D':
				spec["Delete"+name] = needed{auth.Admin, "bucket"}
			}
		}
	}
	return spec
}()

// several are the operations that ask for each target; they have tests of their own.
var several = map[string]bool{"ListBuckets": true, "DeleteObjects": true}

// grantsToTry are what credentials have in turn: nothing here, all rights elsewhere,
// and each right alone in each place that may or may not be enough.
func grantsToTry() (creds []auth.Credential, where []string, what []auth.Right) {
	add := func(place string, r auth.Right, unfenced bool, grants ...auth.Grant) {
		creds = append(creds, auth.Credential{AccessKey: fmt.Sprintf("AK%03d", len(creds)), Unfenced: unfenced, Grants: grants})
		where, what = append(where, place), append(what, r)
	}
	add("nowhere", 0, false)
	add("nowhere", 0, true)
	for _, unfenced := range []bool{false, true} {
		add("another bucket", auth.All, unfenced, auth.Grant{Bucket: "other", Rights: auth.All}, auth.Grant{Bucket: "dat", Rights: auth.All}, auth.Grant{Bucket: "data2", Rights: auth.All})
		add("another prefix", auth.All, unfenced, auth.Grant{Bucket: "data", Prefix: "out/", Rights: auth.All}, auth.Grant{Bucket: "data", Prefix: "in/k2", Rights: auth.All})
		for r := auth.Read; r <= auth.Admin; r <<= 1 {
			add("all but one", auth.All&^r, unfenced, auth.Grant{Bucket: "data", Rights: auth.All &^ r})
			if unfenced {
				continue
			}
			add("everywhere", r, unfenced, auth.Grant{Bucket: auth.Anywhere, Rights: r})
			add("bucket", r, unfenced, auth.Grant{Bucket: "data", Rights: r})
			add("prefix", r, unfenced, auth.Grant{Bucket: "data", Prefix: "in/", Rights: r})
			add("key", r, unfenced, auth.Grant{Bucket: "data", Prefix: "in/k", Rights: r})
		}
	}
	return creds, where, what
}

// mayBySpecification is what the specification says of a grant.
func mayBySpecification(n needed, place string, has auth.Right) bool {
	if has&n.any == 0 {
		return false
	}
	switch place {
	case "everywhere", "bucket", "all but one":
		return true
	case "prefix":
		return n.on == "prefix" || n.on == "key" || n.on == "some"
	case "key":
		return n.on == "key" || n.on == "some"
	case "another prefix":
		return n.on == "some"
	}
	return false
}

// requestOf is a request for an operation on the key in/k of the bucket data, or on
// the prefix in/ of it.
func requestOf(o *operation) call {
	c := call{method: o.method, target: "/data"}
	if o.level == objectLevel {
		c.target += "/in/k"
	}
	var query []string
	for _, s := range o.selects {
		switch s {
		case "uploadId", "partNumber", "id":
			s += "=1"
		}
		query = append(query, s)
	}
	if o.on == onPrefix {
		query = append(query, "prefix=in/")
	}
	if len(query) > 0 {
		c.target += "?" + strings.Join(query, "&")
	}
	if o.copies {
		c.header = map[string]string{"X-Amz-Copy-Source": "/source/k"}
	}
	if o.body == document && o.name != "CreateBucket" {
		c.body = "<Document/>"
	}
	return c
}

// Each operation under each grant, outside of guards and in a scope: allowed if the
// specification says so, and only then. Who is refused moves nothing at the store
// and is told the same whatever is there.
func TestRightsOfEveryOperation(t *testing.T) {
	t.Parallel()
	creds, where, what := grantsToTry()
	for i := range creds {
		// What copies read is another matter.
		creds[i].Grants = append(creds[i].Grants, auth.Grant{Bucket: "source", Rights: auth.Read})
	}
	for name, list := range map[string][]fence.Guard{
		"outside of guards": nil,
		"in a scope":        {guard(t, 1, "s3://data/in/", func(g *fence.Guard) { g.Tokens = fence.Optional })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s seen
			b := newBench(t, newStore(t, s.wrap, "data"), list, withKeys(t, creds...))
			b.transport = &http.Transport{DisableCompression: true}
			defer b.transport.CloseIdleConnections()
			s.set(func(w http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, "<Answer></Answer>")
				return true
			})
			asked, refused := 0, 0
			for i := range operations {
				o := &operations[i]
				spec, specified := specification[o.name]
				switch {
				case several[o.name]:
					continue
				case o.plain == nil:
					if specified {
						t.Errorf("%s is specified and does not exist", o.name)
					}
					continue
				case !specified:
					t.Errorf("%s: nobody has said who may do it", o.name)
					continue
				}
				for j := range creds {
					c := requestOf(o)
					c.key = creds[j].AccessKey
					s.mu.Lock()
					s.requests = nil
					s.mu.Unlock()
					got := b.call(t, c)
					s.mu.Lock()
					sent := len(s.requests)
					s.mu.Unlock()
					code := b.last(t).Code
					asked++
					who := fmt.Sprintf("%s with %v on %s (unfenced: %v)", o.name, what[j], where[j], creds[j].Unfenced)
					switch may := mayBySpecification(spec, where[j], what[j]); {
					case may && code == "AccessDenied":
						t.Errorf("%s is refused: %s", who, got.body)
					case o.name == "CreateBucket" && code == "BucketAlreadyOwnedByYou":
						// Who has something in a bucket is told that it is there. It is so by
						// asking the store, which here knows every bucket.
						if what[j] == 0 || where[j] == "another bucket" {
							t.Errorf("%s: told that it exists", who)
						}
					case !may && (got.status != http.StatusForbidden || code != "AccessDenied"):
						t.Errorf("%s: %d %s", who, got.status, code)
					case !may && sent > 0:
						t.Errorf("%s: refused, and the store was sent %d requests", who, sent)
					case !may:
						refused++
					}
				}
			}
			t.Logf("%d requests, %d refused", asked, refused)
		})
	}
	for name := range specification {
		if !routed(name) {
			t.Errorf("%s is specified and not in the table", name)
		}
	}
}

func routed(name string) bool {
	for i := range operations {
		if operations[i].name == name {
			return true
		}
	}
	return false
}

// A copy needs read where it reads and write where it writes, each of them there.
func TestRightsOnCopySources(t *testing.T) {
	t.Parallel()
	write := auth.Grant{Bucket: "data", Prefix: "to/", Rights: auth.Write}
	creds := []auth.Credential{
		{AccessKey: "AKBOTH", Grants: []auth.Grant{write, {Bucket: "data", Prefix: "from/", Rights: auth.Read}}},
		{AccessKey: "AKWRITE", Grants: []auth.Grant{write}},
		{AccessKey: "AKWRITES", Grants: []auth.Grant{write, {Bucket: "data", Prefix: "from/", Rights: auth.All &^ auth.Read}}},
		{AccessKey: "AKBESIDE", Grants: []auth.Grant{write, {Bucket: "data", Prefix: "from/k2", Rights: auth.All}, {Bucket: "data", Prefix: "to/", Rights: auth.Read}}},
		{AccessKey: "AKOTHER", Grants: []auth.Grant{write, {Bucket: "other", Rights: auth.All}}},
		{AccessKey: "AKREAD", Grants: []auth.Grant{{Bucket: "data", Rights: auth.Read}, {Bucket: "data", Prefix: "from/", Rights: auth.All}}},
		{AccessKey: testKey, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
	}
	for _, guarded := range []string{"", "s3://data/from/", "s3://data/to/"} {
		t.Run(guarded, func(t *testing.T) {
			t.Parallel()
			var list []fence.Guard
			if guarded != "" {
				list = append(list, guard(t, 1, guarded, func(g *fence.Guard) { g.Tokens = fence.Optional }))
			}
			var s seen
			b := newBench(t, newStore(t, s.wrap, "data"), list, withKeys(t, creds...))
			if got := b.call(t, call{method: "PUT", target: "/data/from/k", body: "source"}); got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			for _, source := range []string{"data/from/k", "/data/from/k", "data/from%2Fk", "data/fr%6Fm/k", "/data/from/k?versionId=null", "data/to/../from/k", "data/from/absent"} {
				for _, c := range creds[:6] {
					got := b.call(t, call{method: "PUT", target: "/data/to/k", key: c.AccessKey, header: map[string]string{"X-Amz-Copy-Source": source}})
					may := c.AccessKey == "AKBOTH" && !strings.Contains(source, "..")
					switch {
					case may && got.code() == "AccessDenied", !may && (got.status != 403 || got.code() != "AccessDenied"):
						t.Errorf("%s copies %s: %d %s", c.AccessKey, source, got.status, got.code())
					}
					part := b.call(t, call{method: "PUT", target: "/data/to/k?partNumber=1&uploadId=u", key: c.AccessKey, header: map[string]string{"X-Amz-Copy-Source": source}})
					if (part.code() == "AccessDenied") == may {
						t.Errorf("%s copies a part of %s: %d %s", c.AccessKey, source, part.status, part.code())
					}
				}
			}
		})
	}
}

// Each key of a batch needs its own right, and a key that is refused is told alike
// whether it is there or not.
func TestRightsInBatches(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), []fence.Guard{guard(t, 1, "s3://data/scope/", func(g *fence.Guard) { g.Tokens = fence.Optional })},
		withKeys(t, auth.Credential{AccessKey: testKey, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
			auth.Credential{AccessKey: "AKSOME", Unfenced: true, Grants: []auth.Grant{{Bucket: "data", Prefix: "mine/", Rights: auth.Write}, {Bucket: "data", Rights: auth.All &^ auth.Write}}},
			auth.Credential{AccessKey: "AKNONE", Grants: []auth.Grant{{Bucket: "other", Rights: auth.All}}}))
	keys := []string{"mine/k", "theirs/k", "scope/k", "mine/../theirs/k", "mine", ".s3fence/objects/1"}
	for _, key := range []string{"mine/k", "theirs/k", "scope/k"} {
		if got := b.call(t, call{method: "PUT", target: "/data/" + key, body: "x"}); got.status != 200 {
			t.Fatalf("%s: %d %s", key, got.status, got.body)
		}
	}
	var doc strings.Builder
	for _, key := range append(keys, "theirs/absent", "scope/absent") {
		doc.WriteString("<Object><Key>" + key + "</Key></Object>")
	}
	got := b.call(t, call{method: "POST", target: "/data?delete", key: "AKSOME", body: "<Delete>" + doc.String() + "</Delete>"})
	if got.status != 200 || strings.Count(got.body, "<Deleted>") != 1 || strings.Count(got.body, "<Code>AccessDenied</Code>") != 7 {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, key := range []string{"theirs/k", "scope/k"} {
		if got := b.call(t, call{method: "GET", target: "/data/" + key}); got.body != "x" {
			t.Errorf("%s: %d %s", key, got.status, got.body)
		}
	}
	got = b.call(t, call{method: "POST", target: "/data?delete", key: "AKNONE", body: "<Delete><Object><Key>mine/k</Key></Object></Delete>"})
	if strings.Contains(got.body, "<Deleted>") || got.code() != "AccessDenied" {
		t.Errorf("%d %s", got.status, got.body)
	}
	bypass := map[string]string{"X-Amz-Bypass-Governance-Retention": "true"}
	for _, c := range []call{
		{method: "DELETE", target: "/data/mine/k", key: "AKNONE", header: bypass},
		{method: "POST", target: "/data?delete", key: "AKNONE", header: bypass, body: "<Delete><Object><Key>mine/k</Key></Object></Delete>"},
	} {
		if got := b.call(t, c); got.code() != "AccessDenied" {
			t.Errorf("%s past a retention: %d %s", c.method, got.status, got.body)
		}
	}
}

// Buckets are shown to who has anything in them. Of others nobody learns whether
// they are there, or known here at all.
func TestRightsOnBuckets(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data", "free", "secret"), nil,
		withKeys(t, auth.Credential{AccessKey: "AKSOME", Grants: []auth.Grant{{Bucket: "data", Prefix: "x/", Rights: auth.Lock}, {Bucket: "free", Rights: auth.Read}}}),
		func(o *Options) { o.Buckets.(*bucketMap).gone = map[string]bool{"gone": true} })
	for _, query := range []string{"", "?prefix=s", "?max-buckets=1", "?max-buckets=1&continuation-token=data", "?continuation-token=free"} {
		got := b.call(t, call{method: "GET", target: "/" + query, key: "AKSOME"})
		if got.status != 200 || strings.Contains(got.body, "secret") || strings.Contains(got.body, "alias") || strings.Contains(got.body, "realname") {
			t.Errorf("/%s: %d %s", query, got.status, got.body)
		}
	}
	for i := range operations {
		o := &operations[i]
		if o.plain == nil || o.level == serviceLevel {
			continue
		}
		answers := map[string]bool{}
		for _, bucket := range []string{"secret", "absent", "gone", "alias"} {
			c := requestOf(o)
			c.target, c.key = "/"+bucket+strings.TrimPrefix(c.target, "/data"), "AKSOME"
			if o.name == "DeleteObjects" {
				c.body = "<Delete><Object><Key>k</Key></Object></Delete>"
			}
			got := b.call(t, c)
			if record := b.last(t); record.Code != "AccessDenied" && got.code() != "AccessDenied" {
				t.Errorf("%s of %s: %d %s", o.name, bucket, got.status, got.body)
			}
			message := got.body
			if i := strings.Index(message, "<RequestId>"); i >= 0 {
				message = message[:i]
			}
			answers[strings.ReplaceAll(fmt.Sprint(got.status, message), bucket, "BUCKET")] = true
		}
		if len(answers) != 1 {
			t.Errorf("%s is answered in %d ways: %v", o.name, len(answers), answers)
		}
	}
}

// A list shows what is under its prefix and no more, wherever it is told to begin; what
// continues one list continues no other.
func TestListsStayUnderTheirPrefix(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), []fence.Guard{guard(t, 1, "s3://data/scope/", func(g *fence.Guard) { g.Tokens = fence.Optional })},
		withKeys(t, auth.Credential{AccessKey: testKey, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
			auth.Credential{AccessKey: "AKTENANT", Grants: []auth.Grant{{Bucket: "data", Prefix: "in/", Rights: auth.Read}, {Bucket: "data", Prefix: "scope/in/", Rights: auth.Read}}}))
	for _, key := range []string{"a-secret", "in/1", "in/2", "in/3", "in2/secret", "z-secret", "scope/a-secret", "scope/in/1", "scope/in/2", "scope/z-secret"} {
		if got := b.call(t, call{method: "PUT", target: "/data/" + key, body: "x"}); got.status != 200 {
			t.Fatalf("%s: %d %s", key, got.status, got.body)
		}
	}
	token := func(target string) string {
		got := b.call(t, call{method: "GET", target: target})
		_, rest, found := strings.Cut(got.body, "<NextContinuationToken>")
		if !found {
			t.Fatalf("%s: %d %s", target, got.status, got.body)
		}
		token, _, _ := strings.Cut(rest, "<")
		return token
	}
	forged := func(from string) string {
		return continuation(from, &guarded.ListQuery{Bucket: "data", Prefix: "in/"})
	}
	good := token("/data?list-type=2&max-keys=1&prefix=in/")
	for query, want := range map[string]string{
		"list-type=2&prefix=in/&continuation-token=" + good:                                                "",
		"list-type=2&prefix=in/&max-keys=1&continuation-token=" + good:                                     "",
		"list-type=2&prefix=in/1&continuation-token=" + good:                                               "InvalidArgument",
		"list-type=2&prefix=in/&delimiter=/&continuation-token=" + good:                                    "InvalidArgument",
		"list-type=2&prefix=in/&continuation-token=" + token("/data?list-type=2&max-keys=1"):               "InvalidArgument",
		"list-type=2&prefix=in/&continuation-token=" + token("/data?list-type=2&max-keys=1&prefix=scope/"): "InvalidArgument",
		"list-type=2&prefix=in/&continuation-token=" + forged("a"):                                         "",
		"list-type=2&prefix=in/&continuation-token=" + forged("in2/"):                                      "",
		"list-type=2&prefix=in/&continuation-token=" + forged("z"):                                         "",
		"list-type=2&prefix=in/&start-after=a":                                                             "",
		"list-type=2&prefix=in/&start-after=in2/":                                                          "",
		"list-type=2&prefix=scope/in/&start-after=scope/a":                                                 "",
		"prefix=in/&marker=a":    "",
		"prefix=in/&marker=z":    "",
		"prefix=in/&delimiter=n": "",
		"prefix=in/&delimiter=i": "",
		"prefix=in":              "AccessDenied",
		"prefix=":                "AccessDenied",
		"list-type=2":            "AccessDenied",
		"prefix=i&delimiter=n":   "AccessDenied",
		"prefix=scope/":          "AccessDenied",
		"prefix=in/../":          "AccessDenied",
		"uploads=&prefix=in":     "AccessDenied",
		"versions=&prefix=in":    "AccessDenied",
		"list-type=2&continuation-token=" + token("/data?list-type=2&max-keys=1"):                             "AccessDenied",
		"list-type=2&prefix=in2/&continuation-token=" + good:                                                  "AccessDenied",
		"list-type=2&prefix=scope/&continuation-token=" + token("/data?list-type=2&max-keys=1&prefix=scope/"): "AccessDenied",
	} {
		got := b.call(t, call{method: "GET", target: "/data?" + query, key: "AKTENANT"})
		if got.code() != want || want == "" && got.status != 200 || strings.Contains(got.body, "secret") {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}

// Who has fenced credentials of one scope may not go on with an upload that was made
// in another one without a token, though the credential itself needs none.
func TestUnfencedIsLeftToTheCredentialItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), []fence.Guard{guard(t, 1, "s3://data/a/"), guard(t, 2, "s3://data/b/")},
		withKeys(t, auth.Credential{AccessKey: testKey, Unfenced: true, Grants: []auth.Grant{{Bucket: "data", Rights: auth.All}}}))
	b.fake.grant("s3://data/a/", 34, false)
	created := b.call(t, call{method: "POST", target: "/data/b/k?uploads"})
	if created.status != 200 {
		t.Fatalf("%d %s", created.status, created.body)
	}
	_, rest, _ := strings.Cut(created.body, "<UploadId>")
	id, _, _ := strings.Cut(rest, "<")
	part := call{method: "PUT", target: "/data/b/k?partNumber=1&uploadId=" + id, body: "part"}
	one := b.call(t, part)
	if one.status != 200 {
		t.Fatalf("%d %s", one.status, one.body)
	}
	complete := call{method: "POST", target: "/data/b/k?uploadId=" + id,
		body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + one.header.Get("Etag") + "</ETag></Part></CompleteMultipartUpload>"}
	for _, c := range []call{part, complete} {
		c.key, c.carried = testKey, "s3://data/a/#34"
		if got := b.call(t, c); got.status != 403 || got.code() != codeMissing {
			t.Errorf("%s with credentials of another scope: %d %s", c.method, got.status, got.body)
		}
	}
	if got := b.call(t, complete); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}
