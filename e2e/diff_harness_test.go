package e2e

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/storetest"
)

// Differential tests: one program of signed requests is sent straight to a store
// and through the proxy, and the answers are compared field by field. What differs
// is a bug or stands, with its reason, in testdata/differences.yaml.

// diffColumn is one way to the store.
type diffColumn string

const (
	// diffDirect is the store itself, which the others are compared with.
	diffDirect diffColumn = "direct"
	// diffPlain is the proxy, outside of every guard.
	diffPlain diffColumn = "plain"
	// diffSealed is the proxy, in a sealed bucket, each request with a valid token.
	diffSealed diffColumn = "sealed"
	// diffNone is the proxy, in a sealed bucket with tokens: none.
	diffNone diffColumn = "none"
)

var diffColumns = []diffColumn{diffDirect, diffPlain, diffSealed, diffNone}

// diffBuckets are the buckets that each column has. Cases that see, or change, a
// bucket as a whole have one of their own.
var diffBuckets = []string{"main", "lists", "uploads", "versions", "settings", "second"}

// diffTarget is one column of one store.
type diffTarget struct {
	column  diffColumn
	via     *Proxy
	buckets map[string]string
	// shared is what all their names begin with.
	shared string
	tokens map[string]int64
}

// newDiffTargets makes the columns of a store.
func newDiffTargets(t *testing.T, store *storetest.Server) []*diffTarget {
	t.Helper()
	id := strings.ToLower(rand.Text()[:8])
	var targets []*diffTarget
	var guards []map[string]any
	for _, column := range diffColumns {
		d := &diffTarget{column: column, buckets: map[string]string{}, tokens: map[string]int64{}}
		d.shared = fmt.Sprintf("diff-%s-%s-", id, column[:1])
		for _, name := range diffBuckets {
			// All names are of one length, so that bounds on documents meet all alike.
			d.buckets[name] = fmt.Sprintf("%s%-8s", d.shared, name)
			d.buckets[name] = strings.ReplaceAll(d.buckets[name], " ", "x")
			g := map[string]any{"pattern": "s3://" + d.buckets[name] + "/"}
			if column == diffNone {
				g["tokens"] = "none"
			}
			if column == diffSealed || column == diffNone {
				guards = append(guards, g)
			}
		}
		targets = append(targets, d)
	}
	direct := &Proxy{t: t, URL: store.Endpoint, cluster: &Cluster{t: t, AccessKey: store.AccessKey, SecretKey: store.SecretKey}}
	for _, d := range targets {
		for _, name := range diffBuckets {
			direct.Send(t, Request{Method: "PUT", Bucket: d.buckets[name]}).Want(t, 200)
		}
	}
	for _, d := range targets {
		// MinIO takes the deletion of a setting that it does not know for that of the
		// bucket.
		direct.Send(t, Request{Method: "PUT", Bucket: d.buckets["settings"], Key: ".keep"}).Want(t, 200)
	}
	c := NewCluster(t, Options{MinIO: store, Config: map[string]any{"guards": guards}})
	for _, d := range targets {
		d.via = c.Proxies[0]
		switch d.column {
		case diffDirect:
			d.via = direct
		case diffSealed:
			for _, name := range diffBuckets {
				d.tokens[name] = d.via.Acquire(t, "s3://"+d.buckets[name]+"/", "diff")
			}
		}
	}
	return targets
}

// diffRun is one program at one target. Its methods are for one goroutine.
type diffRun struct {
	ctx    context.Context
	target *diffTarget
	// bucket is a name of diffBuckets, prefix what the keys of this program begin with.
	bucket, prefix string
	steps          []diffStep
	// names stand for values that every run has its own of, in the order found.
	names []diffName
	// label is what the next steps belong to: operation/case.
	label string
	// used are the parameters and headers that the steps had, by label.
	used map[string]map[string]bool
	// made counts the bucket names of this program.
	made int
}

type diffName struct{ value, name, label string }

// diffStep is one request and what was answered, by field: "status", "header X",
// "body", or the path of an element of the body.
type diffStep struct {
	of, what string
	fields   map[string]string
}

// name is the real name of a bucket of the column.
func (p *diffRun) name(bucket string) string { return p.target.buckets[bucket] }

// key is a key of this program.
func (p *diffRun) key(k string) string { return p.prefix + k }

// source is the copy source of a key of this program.
func (p *diffRun) source(k string) string { return escape(p.name(p.bucket) + "/" + p.key(k)) }

// send sends a request to the program's bucket, unless it names another, and
// keeps the answer for the comparison.
func (p *diffRun) send(r Request) Answer {
	a := p.do(&r)
	p.keep("", &r, &a)
	used := p.used[p.label]
	if used == nil {
		used = map[string]bool{}
		p.used[p.label] = used
	}
	used["status "+strconv.Itoa(a.Status)] = true
	for name := range r.Query {
		used["?"+name] = true
	}
	for name := range r.Header {
		used[http.CanonicalHeaderKey(name)] = true
	}
	return a
}

// prepare sends a request that is not compared and must succeed.
func (p *diffRun) prepare(r Request) Answer {
	a := p.do(&r)
	if a.Status/100 != 2 {
		p.keep("to prepare: ", &r, &a)
	}
	return a
}

func (p *diffRun) keep(why string, r *Request, a *Answer) {
	p.steps = append(p.steps, diffStep{of: p.label, what: why + r.Method + " " + p.rename(p.describe(r)), fields: p.fields(a)})
}

func (p *diffRun) do(r *Request) Answer {
	if r.Bucket == "" && r.RawPath == "" {
		r.Bucket = p.name(p.bucket)
	}
	if r.Bucket == "/" {
		r.Bucket = ""
	}
	fenced := r.Key != "" || r.Query.Has("delete") || r.Query.Has("uploads") || r.Query.Has("list-type") || r.Method == http.MethodGet && len(r.Query) == 0
	for name, bucket := range p.target.buckets {
		if token := p.target.tokens[name]; token != 0 && r.Bucket == bucket && fenced {
			r.Header = maps.Clone(r.Header)
			if r.Header == nil {
				r.Header = map[string]string{}
			}
			r.Header["X-Fencing-Token"] = strconv.FormatInt(token, 10)
		}
	}
	a, err := p.target.via.TrySend(p.ctx, *r)
	if err != nil {
		// Which words the failure has depends on when it is seen.
		if errors.Is(err, context.DeadlineExceeded) {
			a = Answer{Body: "no answer"}
		} else {
			a = Answer{Body: "connection closed"}
		}
	}
	delete(r.Header, "X-Fencing-Token")
	p.find(&a)
	return a
}

func (p *diffRun) describe(r *Request) string {
	what := "/" + r.Bucket + "/" + r.Key
	if r.RawPath != "" {
		what = r.RawPath
	}
	if len(r.Query) > 0 {
		q := maps.Clone(r.Query)
		if q.Has("continuation-token") {
			q.Set("continuation-token", "TOKEN")
		}
		what += "?" + q.Encode()
	}
	for _, h := range []map[string]string{r.Header, r.Unsigned} {
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if name != "X-Fencing-Token" {
				what += " " + name + ": " + h[name]
			}
		}
	}
	return clip(what)
}

var diffIDs = regexp.MustCompile(`<(UploadId|VersionId|DeleteMarkerVersionId)>([^<]+)</`)

// find names the ids of an answer.
func (p *diffRun) find(a *Answer) {
	add := func(kind, value string) {
		if value == "" || slices.Contains([]string{"null", "absent", "none", "x"}, value) || slices.ContainsFunc(p.names, func(n diffName) bool { return n.value == value }) {
			return
		}
		// Counted from the first of this label: a request before that failed in one
		// column alone must not shift them.
		n := 1
		for _, have := range p.names {
			if have.label == p.label && strings.HasPrefix(have.name, kind) {
				n++
			}
		}
		p.names = append(p.names, diffName{value, fmt.Sprintf("%s%d", kind, n), p.label})
	}
	for _, m := range diffIDs.FindAllStringSubmatch(a.Body, -1) {
		add(map[string]string{"UploadId": "UPLOAD-", "VersionId": "VERSION-", "DeleteMarkerVersionId": "VERSION-"}[m[1]], m[2])
	}
	add("VERSION-", a.Header.Get("X-Amz-Version-Id"))
}

// rename puts the same names where each run has values of its own.
func (p *diffRun) rename(s string) string {
	for _, name := range diffBuckets {
		s = strings.ReplaceAll(s, p.target.buckets[name], "BUCKET:"+name)
	}
	s = strings.ReplaceAll(s, p.target.shared, "diff-")
	for _, n := range p.names {
		s = strings.ReplaceAll(s, n.value, n.name)
	}
	return strings.ReplaceAll(s, strings.TrimPrefix(p.target.via.URL, "http://"), "HOST")
}

// diffNormal is one thing that is not compared as it stands.
type diffNormal struct {
	name, reason string
	// field finds the fields that it is about; value is what stands there instead.
	field *regexp.Regexp
	value func(p *diffRun, s string) string
}

func some(_ *diffRun, s string) string {
	if s == "" {
		return ""
	}
	return "(some)"
}

// diffNormals are all of them. Bucket names, upload and version ids and the
// endpoint's host are replaced by names everywhere (diffRun.rename): each column
// has its own.
var diffNormals = []diffNormal{
	{"request ids", "each request has its own", regexp.MustCompile(`^(header X-Amz-Request-Id|header X-Amz-Id-2|/Error/RequestId|/Error/HostId)$`), some},
	{"server", "each server says its own name", regexp.MustCompile(`^header Server$`), some},
	{"dates", "the columns are written one after another; the form is compared, and that it is now", regexp.MustCompile(`(/LastModified|/CreationDate|/Initiated|^header Last-Modified|^header Date)$`), now},
	{"storage-side decorations", "headers of a store's own, which no S3 client reads", regexp.MustCompile(`^header (Strict-Transport-Security|Vary|X-Content-Type-Options|X-Xss-Protection|X-Ratelimit-.*|X-Minio-.*|Connection|Transfer-Encoding)$`), func(*diffRun, string) string { return diffAbsent }},
	{"owners", "who owns what is the proxy's matter: it has one owner, and rights by access key", regexp.MustCompile(`/(Owner|Initiator|Grantee)/(ID|DisplayName)$`), some},
	{"continuation tokens", "opaque, and only whoever made one reads it", regexp.MustCompile(`/(Next)?ContinuationToken$`), some},
}

// now says which form a time has, if it is about the present.
func now(_ *diffRun, s string) string {
	for _, form := range []string{http.TimeFormat, "2006-01-02T15:04:05.000Z", "2006-01-02T15:04:05Z", time.ANSIC} {
		if at, err := time.Parse(form, s); err == nil && len(s) == len(form) && time.Since(at).Abs() < time.Hour {
			return "now, as " + form
		}
	}
	return s
}

// fields takes an answer apart.
func (p *diffRun) fields(a *Answer) map[string]string {
	f := map[string]string{"status": strconv.Itoa(a.Status)}
	for name, values := range a.Header {
		f["header "+name] = strings.Join(values, " | ")
	}
	switch root := rootOf(a.Body); {
	case root == "" && a.Body == "" && a.Status >= 400:
		// The length of an error document that HEAD does not send.
		delete(f, "header Content-Length")
		delete(f, "header Content-Type")
	case root == "":
		f["body"] = a.Body
	default:
		p.elements(a.Body, f)
		// The document's length is that of the names that stand in it.
		if _, ok := f["header Content-Length"]; ok {
			f["header Content-Length"] = "(the document's)"
			if a.Header.Get("Content-Length") != strconv.Itoa(len(a.Body)) {
				f["header Content-Length"] = a.Header.Get("Content-Length")
			}
		}
	}
	named := map[string]string{}
	for name, v := range f {
		name, v = p.rename(name), p.rename(v)
		for _, n := range diffNormals {
			if n.field.MatchString(name) {
				v = n.value(p, v)
			}
		}
		named[name] = v
	}
	return named
}

// rootOf is the name of a document's root, or "" where the body is none.
func rootOf(body string) string {
	if !strings.HasPrefix(strings.TrimSpace(body), "<") {
		return ""
	}
	d := xml.NewDecoder(strings.NewReader(body))
	for {
		tok, err := d.RawToken()
		if err != nil {
			return ""
		}
		if start, ok := tok.(xml.StartElement); ok {
			return start.Name.Local
		}
	}
}

// elements writes a document as paths: siblings of one name are numbered, the
// order of those with different names is nobody's concern.
func (p *diffRun) elements(body string, into map[string]string) {
	type node struct {
		path  string
		seen  map[string]int
		text  strings.Builder
		child bool
	}
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict = false
	stack := []*node{{seen: map[string]int{}}}
	own := slices.Collect(maps.Values(p.target.buckets))
	for {
		tok, err := d.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				into["document"] = "not well-formed"
			}
			return
		}
		top := stack[len(stack)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			if tok.Name.Local == "Bucket" && strings.HasSuffix(top.path, "/Buckets") {
				// The columns share a store, and each sees the buckets of all.
				var b struct{ Name, CreationDate, BucketRegion string }
				if d.DecodeElement(&b, &tok) == nil && slices.Contains(own, b.Name) {
					into[top.path+"/Bucket["+b.Name+"]"] = ""
					into[top.path+"/Bucket["+b.Name+"]/CreationDate"] = b.CreationDate
					into[top.path+"/Bucket["+b.Name+"]/BucketRegion"] = b.BucketRegion
				}
				continue
			}
			if tok.Name.Local == "Tag" && strings.HasSuffix(top.path, "/TagSet") {
				// Tags have no order.
				var tag struct{ Key, Value string }
				if d.DecodeElement(&tag, &tok) == nil {
					into[top.path+"/Tag["+tag.Key+"]"] = tag.Value
				}
				top.child = true
				continue
			}
			top.child = true
			top.seen[tok.Name.Local]++
			path := top.path + "/" + tok.Name.Local
			if n := top.seen[tok.Name.Local]; n > 1 {
				path += "[" + strconv.Itoa(n) + "]"
			}
			if len(stack) == 1 {
				into["namespace"] = tok.Name.Space
				if tok.Name.Local == "getObjectAttributesResponse" {
					path = "/GetObjectAttributesResponse" // MinIO writes a small g
				}
			}
			for _, a := range tok.Attr {
				if a.Name.Local != "xmlns" && a.Name.Space != "xmlns" {
					into[path+"@"+a.Name.Local] = a.Value
				}
			}
			stack = append(stack, &node{path: path, seen: map[string]int{}})
		case xml.CharData:
			top.text.Write(tok)
		case xml.EndElement:
			if text := top.text.String(); !top.child {
				into[top.path] = text
			} else if strings.TrimSpace(text) != "" {
				into[top.path] = text
			}
			stack = stack[:len(stack)-1]
		}
	}
}

// difference is one field in which a column differs from the store.
type difference struct {
	store  string
	column diffColumn
	// of is operation/case.
	of, step, field string
	direct, proxied string
	// status is that of both answers, empty where it is the difference.
	status string
}

const diffAbsent = "(absent)"

func (d *difference) String() string {
	return fmt.Sprintf("%s %s %s: %s: %s: direct %q, proxied %q", d.store, d.column, d.of, d.step, d.field, clip(d.direct), clip(d.proxied))
}

// compare finds the differences between two runs. Where the status differs the
// answers are different altogether, and one difference says so.
//
// A preparation that failed at one of them is a difference of its own; the steps
// after it are compared all the same.
func compare(store string, direct, proxied *diffRun) (found []difference) {
	var labels []string
	group := func(run *diffRun) map[string][]diffStep {
		steps := map[string][]diffStep{}
		for _, s := range run.steps {
			if !slices.Contains(labels, s.of) {
				labels = append(labels, s.of)
			}
			steps[s.of] = append(steps[s.of], s)
		}
		return steps
	}
	a, b := group(direct), group(proxied)
	for _, label := range labels {
		found = append(found, compareSteps(store, label, proxied.target.column, a[label], b[label])...)
	}
	return found
}

// compareSteps compares the steps of one label.
func compareSteps(store, label string, column diffColumn, direct, proxied []diffStep) (found []difference) {
	for i, j := 0, 0; i < len(direct) || j < len(proxied); i, j = i+1, j+1 {
		var a, b diffStep
		if i < len(direct) {
			a = direct[i]
		}
		if j < len(proxied) {
			b = proxied[j]
		}
		add := func(step, field, x, y string) {
			d := difference{store: store, column: column, of: label, step: step, field: field, direct: x, proxied: y}
			if field != "status" {
				d.status = a.fields["status"]
			}
			found = append(found, d)
		}
		if a.what != b.what {
			switch {
			case strings.HasPrefix(b.what, "to prepare") && !strings.HasPrefix(a.what, "to prepare"):
				add(b.what, "preparation", "succeeds", strings.TrimSpace(b.fields["status"]+" "+b.fields["/Error/Code"]))
				i--
			case strings.HasPrefix(a.what, "to prepare") && !strings.HasPrefix(b.what, "to prepare"):
				add(a.what, "preparation", strings.TrimSpace(a.fields["status"]+" "+a.fields["/Error/Code"]), "succeeds")
				j--
			default:
				add(a.what, "request", a.what, b.what)
				return found
			}
			continue
		}
		if a.fields["status"] != b.fields["status"] {
			add(a.what, "status", strings.TrimSpace(a.fields["status"]+" "+a.fields["/Error/Code"]), strings.TrimSpace(b.fields["status"]+" "+b.fields["/Error/Code"]))
			continue
		}
		names := maps.Clone(a.fields)
		maps.Copy(names, b.fields)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if x, y := at(a.fields, name), at(b.fields, name); x != y {
				add(a.what, name, x, y)
			}
		}
	}
	return found
}

func at(m map[string]string, name string) string {
	if v, ok := m[name]; ok {
		return v
	}
	return diffAbsent
}

// run runs one program at all targets, side by side.
func runEverywhere(ctx context.Context, targets []*diffTarget, c *diffCase) []*diffRun {
	var runs []*diffRun
	var all sync.WaitGroup
	for _, target := range targets {
		if target.column != diffDirect && len(c.columns) > 0 && !slices.Contains(c.columns, target.column) {
			continue
		}
		bucket := c.bucket
		if bucket == "" {
			bucket = "main"
		}
		run := &diffRun{ctx: ctx, target: target, bucket: bucket, prefix: c.prefix, label: c.of + "/" + c.name, used: map[string]map[string]bool{}}
		runs = append(runs, run)
		all.Go(func() { c.run(run) })
	}
	all.Wait()
	return runs
}

// values makes a query.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}

// headers makes headers.
func headers(pairs ...string) map[string]string {
	h := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = pairs[i+1]
	}
	return h
}
