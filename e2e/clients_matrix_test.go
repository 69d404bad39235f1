package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateMatrix = flag.Bool("update", false, "write testdata/clients and docs/clients-matrix.md as the clients behave now")

// allSites in the environment, set to all, makes every client work at every site.
// Without it slow ones work at the last only, which asks most of them; their refusals
// are tried over http, where requests can be counted.
const allSites = "S3FENCE_TEST_CLIENTS"

// The sites, by what is kept in testdata.
const (
	openHTTP    = "open, http"
	openHTTPS   = "open, https"
	sealedHTTP  = "sealed, http"
	sealedHTTPS = "sealed, https"
)

var siteNames = []string{openHTTP, openHTTPS, sealedHTTP, sealedHTTPS}

// site is where a client works: below a prefix of a bucket without a guard, with
// the credentials of the configuration; or in a scope of its own of a guarded one,
// with fenced credentials.
type site struct {
	t     *testing.T
	name  string
	proxy *Proxy
	// tap is nil over https.
	tap      *Tap
	endpoint string
	// prefix ends with a slash.
	bucket, prefix string
	keys           Fenced
	// work is the folder in which the client runs, and its home.
	work string
	// eager lets the client send again what failed, as it does by itself.
	eager bool
}

// action is something a client does. Code is 0 where the client says that it is
// done.
type action func(s *site, args ...string) Output

// client is a row of the matrix.
type matrixClient struct {
	// name is the file's, too; title is what people call it.
	name, title string
	// version says which one this is, or why there is none to test with. It is run in
	// the folder given.
	version func(t *testing.T) (version, missing string)
	// trust says how it is told of a private CA, thereby the fenced credentials.
	trust, fenced string
	// slow clients cost seconds of processor time for each site.
	slow bool
	// do has the client's way for each operation that it knows, by the names of
	// [operations].
	do map[string]action
	// carriers are its other ways to carry a token, by name: uploads of $1 as $2
	// under the token $3.
	carriers map[string]action
	// begin prepares a site.
	begin func(s *site)
	// patient clients try a write without a token again for a minute, whatever they
	// do: it is tried once, with all sites.
	patient bool
	// alone: the client keeps a tree of its own, and only its answers are judged.
	alone bool
	// uncounted: what is sent are recorded requests, so their number says nothing.
	uncounted bool
}

// record is what is kept of a client.
type record struct {
	Client, Version string
	Trust           string
	Fenced          string
	// Operations by site: "yes", or what went wrong. What a client does not do is
	// not there.
	Operations map[string]map[string]string
	Carriers   map[string]string `json:",omitempty"`
	Refusals   []refusal
}

// refusal is how a client shows a stale or a missing token.
type refusal struct {
	Token, Operation string
	Exit             int
	// Requests as methods with how often each was sent.
	Requests string
	// Says is the first line that a person sees; Code whether the error's code is in
	// what the client says.
	Says string
	Code bool
}

// operations in the order in which they are tried at a site. Each returns what is
// wrong with what the client did.
var operations = []struct {
	name, title string
	try         func(s *site, do action) error
}{
	{"upload", "upload", func(s *site, do action) error {
		return first(do(s, s.file("small"), "small").failure(), func() error { return s.holds("small", smallBody) })
	}},
	{"download", "download", func(s *site, do action) error {
		return first(do(s, "small", s.file("back")).failure(), func() error { return s.got("back", smallBody) })
	}},
	{"multipart", "multipart upload", func(s *site, do action) error {
		return first(do(s, s.file("big"), "big").failure(), func() error { return s.holdsParts("big") })
	}},
	{"big", "download of it", func(s *site, do action) error {
		return first(do(s, "big", s.file("bigback")).failure(), func() error { return s.got("bigback", s.read("big")) })
	}},
	{"sync", "sync up", func(s *site, do action) error {
		if err := do(s, s.file("tree"), "tree/").failure(); err != nil {
			return err
		}
		for name, body := range oddTree {
			if err := s.holds("tree/"+name, body); err != nil {
				return err
			}
		}
		s.taken()
		before := s.list("tree/")
		if err := do(s, s.file("tree"), "tree/").failure(); err != nil {
			return fmt.Errorf("again: %w", err)
		}
		for _, r := range s.taken() {
			if r.Changes() {
				return fmt.Errorf("the second sync sent %s %s", r.Method, r.URI)
			}
		}
		if after := s.list("tree/"); !slices.Equal(before, after) {
			return fmt.Errorf("the second sync copied: %v, then %v", before, after)
		}
		return nil
	}},
	{"syncdown", "sync down", func(s *site, do action) error {
		s.fill("tree/")
		if err := do(s, "tree/", s.file("treeback")).failure(); err != nil {
			return err
		}
		for name, body := range oddTree {
			if err := s.got("treeback/"+name, body); err != nil {
				return err
			}
		}
		return nil
	}},
	{"list", "list, odd keys", func(s *site, do action) error {
		s.fill("tree/")
		out := do(s, "tree/")
		if err := out.failure(); err != nil {
			return err
		}
		for name := range oddTree {
			if !strings.Contains(out.Stdout, name) && !strings.Contains(html.UnescapeString(out.Stdout), name) {
				return fmt.Errorf("the list lacks %q: %s", name, out.Stdout)
			}
		}
		return nil
	}},
	{"odd", "download, odd keys", func(s *site, do action) error {
		s.fill("tree/")
		for name, body := range oddTree {
			if err := first(do(s, "tree/"+name, s.file("odd")).failure(), func() error { return s.got("odd", body) }); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		return nil
	}},
	{"copy", "copy in the store", func(s *site, do action) error {
		s.put("small", smallBody)
		s.taken()
		if err := do(s, "small", "copied").failure(); err != nil {
			return err
		}
		if seen := s.taken(); s.tap != nil && !slices.ContainsFunc(seen, func(r Tapped) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }) {
			return errors.New("it was not copied in the store")
		}
		return s.holds("copied", smallBody)
	}},
	{"move", "move", func(s *site, do action) error {
		s.put("from", smallBody)
		return first(do(s, "from", "moved").failure(), func() error { return s.lacks("from") }, func() error { return s.holds("moved", smallBody) })
	}},
	{"delete", "delete", func(s *site, do action) error {
		s.put("gone", smallBody)
		return first(do(s, "gone").failure(), func() error { return s.lacks("gone") })
	}},
	{"deleteall", "delete below a prefix", func(s *site, do action) error {
		s.fill("trash/")
		return first(do(s, "trash/").failure(), func() error {
			if left := s.list("trash/"); len(left) > 0 {
				return fmt.Errorf("left are %v", left)
			}
			return nil
		})
	}},
	{"presignget", "presigned GET", func(s *site, do action) error {
		s.put("small", smallBody)
		out := do(s, "small")
		if err := out.failure(); err != nil {
			return err
		}
		answer := s.curl(link(out.Stdout))
		if err := answer.failure(); err != nil {
			return err
		}
		if answer.Stdout != smallBody {
			return fmt.Errorf("the link gave %q", answer.Stdout)
		}
		return nil
	}},
	{"presignput", "presigned PUT", func(s *site, do action) error {
		out := do(s, "linked")
		if err := out.failure(); err != nil {
			return err
		}
		return first(s.curl("-T", s.file("small"), link(out.Stdout)).failure(), func() error { return s.holds("linked", smallBody) })
	}},
	{"form", "upload by a browser form", func(s *site, do action) error {
		return first(do(s, s.file("small"), "form").failure(), func() error { return s.holds("form", smallBody) })
	}},
	{"metadata", "content type, metadata", func(s *site, do action) error {
		out := do(s, s.file("small"), "described")
		if err := out.failure(); err != nil {
			return err
		}
		head := s.send("HEAD", "described", "", nil)
		if kind, colour := head.Header.Get("Content-Type"), head.Header.Get("X-Amz-Meta-Colour"); kind != "text/x-matrix" || colour != "blue" {
			return fmt.Errorf("stored are content type %q and colour %q", kind, colour)
		}
		if !strings.Contains(out.Stdout, "text/x-matrix") || !strings.Contains(out.Stdout, "blue") {
			return fmt.Errorf("it reads %s", out.Stdout)
		}
		return nil
	}},
	{"tags", "tags", func(s *site, do action) error {
		s.put("tagged", smallBody)
		out := do(s, "tagged")
		if err := out.failure(); err != nil {
			return err
		}
		if !strings.Contains(out.Stdout, "pale") {
			return fmt.Errorf("it reads %s", out.Stdout)
		}
		stored := s.proxy.Send(s.t, s.keys.sign(Request{Method: "GET", Bucket: s.bucket, Key: s.prefix + "tagged", Query: map[string][]string{"tagging": {""}}}))
		if !strings.Contains(stored.Body, "<Key>shade</Key><Value>pale</Value>") {
			return fmt.Errorf("stored are %s", stored.Body)
		}
		return nil
	}},
}

// smallBody is what the recorded requests of the SDK for JavaScript carry.
const smallBody = "a line\n"

// bigSize is over every client's threshold for uploads in parts, as far as that
// cannot be set: 16 MiB of mc and of s3cmd.
const bigSize = 17<<20 + 1

// oddTree has names that clients escape, each in a way of its own.
var oddTree = map[string]string{
	"a b":                  "space",
	"plus+and%25&=":        "signs",
	"sub/deeper/c":         "nested",
	"ünïcode/日本":           "unicode",
	"quote'(x)!~":          "more signs",
	"trailing.dot./-dash-": "dots",
}

// TestClientMatrix runs every client through every operation that it has, at every
// site, and then with a token that is stale and with none. What it finds has to be
// what testdata/clients says.
func TestClientMatrix(t *testing.T) {
	t.Parallel()
	guards := []Guard{{Prefix: "sealed/*/"}}
	plain, secure := NewCluster(t, Options{Guards: guards}), NewCluster(t, Options{Guards: guards, TLS: true})
	m := &matrix{plain: plain, secure: secure, open: map[*Cluster]string{plain: plain.NewBucket(), secure: secure.NewBucket()}, files: filesOfMatrix(t)}
	t.Run("clients", func(t *testing.T) {
		for _, client := range matrixClients(t) {
			t.Run(client.name, func(t *testing.T) {
				t.Parallel()
				version, missing := client.version(t)
				if missing != "" {
					t.Skip(missing)
				}
				got := m.run(t, client)
				got.Version = version
				m.compare(t, client, got)
			})
		}
	})
}

// TestClientMatrixPage holds docs/clients-matrix.md against what it is made from.
// Written before TestClientMatrix has ended it would be older than that.
func TestClientMatrixPage(t *testing.T) {
	page := renderMatrix(t)
	path := filepath.Join("..", "docs", "clients-matrix.md")
	if *updateMatrix {
		require.NoError(t, os.WriteFile(path, page, 0o600))
	}
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(kept), string(page), "docs/clients-matrix.md is not what testdata/clients gives: make clients writes it")
}

func atAllSites() bool { return os.Getenv(allSites) == "all" }

type matrix struct {
	plain, secure *Cluster
	open          map[*Cluster]string
	files         string
	// via, where set, changes the way from a site's client to its proxy.
	via func(*site)
}

// filesOfMatrix makes the files that every client uploads.
func filesOfMatrix(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	big := make([]byte, bigSize)
	_, err := rand.Read(big)
	require.NoError(t, err)
	all := map[string]string{"small": smallBody, "big": string(big)}
	for name, body := range oddTree {
		all["tree/"+name] = body
	}
	for name, body := range all {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
	}
	return dir
}

// site makes one for a client, and for a purpose of its own where one is given.
func (m *matrix) site(t *testing.T, client *matrixClient, name, purpose string) *site {
	t.Helper()
	c := m.plain
	if strings.HasSuffix(name, "https") {
		c = m.secure
	}
	s := &site{t: t, name: name, proxy: c.Proxies[0], endpoint: c.Proxies[0].URL, bucket: m.open[c], prefix: client.name + purpose + "/", work: t.TempDir()}
	s.keys = Fenced{AccessKey: c.AccessKey, SecretKey: c.SecretKey}
	if strings.HasPrefix(name, "sealed") {
		s.bucket, s.prefix = c.Bucket, "sealed/"+client.name+purpose+"/"
		s.fence()
	}
	if c.cert == nil {
		s.tap = s.proxy.Tap(t)
		s.endpoint = s.tap.URL
	}
	if m.via != nil {
		m.via(s)
	}
	require.NoError(t, os.Symlink(filepath.Join(m.files, "tree"), filepath.Join(s.work, "tree")))
	for _, file := range []string{"small", "big"} {
		require.NoError(t, os.Link(filepath.Join(m.files, file), filepath.Join(s.work, file)))
	}
	if client.begin != nil {
		client.begin(s)
	}
	return s
}

// fence takes the lock of the site's scope from whoever has it, and its credentials.
func (s *site) fence() {
	s.t.Helper()
	scope := s.scope()
	token := s.proxy.Take(s.t, scope, "matrix@host")
	s.keys = Fenced{}
	s.proxy.API(s.t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": token}).Want(s.t, 200).JSON(s.t, &s.keys)
}

func (s *site) scope() string { return "s3://" + s.bucket + "/" + s.prefix }

// run tries everything that a client does.
func (m *matrix) run(t *testing.T, client *matrixClient) record {
	got := record{Client: client.title, Trust: client.trust, Fenced: client.fenced, Operations: map[string]map[string]string{}}
	for _, name := range siteNames {
		if client.slow && !atAllSites() && name != sealedHTTPS {
			continue
		}
		s := m.site(t, client, name, "")
		verdicts := map[string]string{}
		for _, o := range operations {
			do := client.do[o.name]
			if do == nil {
				continue
			}
			verdicts[o.name] = "yes"
			if client.alone {
				if err := do(s, "").failure(); err != nil {
					verdicts[o.name] = s.normal(err.Error())
				}
				continue
			}
			if err := o.try(s, do); err != nil {
				verdicts[o.name] = s.normal(err.Error())
			}
		}
		got.Operations[name] = verdicts
	}
	got.Carriers = m.carriers(t, client)
	got.Refusals = m.refusals(t, client)
	return got
}

// carriers tries a client's other ways to carry a token: one that counts must be
// taken, and one that is stale be refused.
func (m *matrix) carriers(t *testing.T, client *matrixClient) map[string]string {
	if client.carriers == nil {
		return nil
	}
	s := m.site(t, client, sealedHTTP, "-carried")
	good := s.keys.Token
	s.keys = Fenced{AccessKey: m.plain.AccessKey, SecretKey: m.plain.SecretKey}
	found := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(client.carriers)) {
		do := client.carriers[name]
		key := "carried by " + name
		out := do(s, s.file("small"), key, strconv.FormatInt(good, 10))
		err := first(out.failure(), func() error { return s.holds(key, smallBody) })
		if err != nil {
			found[name] = s.normal(err.Error())
			continue
		}
		if head := s.send("HEAD", key, "", nil); head.Header.Get("X-Amz-Meta-Fencing-Token") != "" {
			t.Errorf("%s: the token by %s stayed with the object", client.name, name)
		}
		found[name] = "yes"
	}
	s.proxy.Take(t, s.scope(), "next@host")
	for name, verdict := range found {
		if verdict != "yes" {
			continue
		}
		out := client.carriers[name](s, s.file("small"), "late", strconv.FormatInt(good, 10))
		if out.Code == 0 || !strings.Contains(out.Stdout+out.Stderr, "StaleFencingToken") && !strings.Contains(out.Stdout+out.Stderr, "is stale") {
			t.Errorf("%s: a stale token by %s: exit code %d\n%s%s", client.name, name, out.Code, out.Stdout, out.Stderr)
		}
		assert.NoError(t, s.lacks("late"))
	}
	return found
}

// refusals tries a client with a token that is stale and without one, as impatient
// as it is by itself.
func (m *matrix) refusals(t *testing.T, client *matrixClient) []refusal {
	s := m.site(t, client, sealedHTTP, "-refused")
	s.put("small", smallBody)
	s.eager = true
	var found []refusal
	try := func(token string) {
		for _, o := range []struct {
			name string
			args []string
		}{{"upload", []string{s.file("small"), "late"}}, {"download", []string{"small", s.file("late")}}, {"delete", []string{"small"}}, {"list", []string{""}}} {
			do := client.do[o.name]
			if do == nil || client.patient && token == "missing" && o.name != "upload" {
				continue
			}
			s.taken()
			out := do(s, o.args...)
			r := refusal{Token: token, Operation: o.name, Exit: out.Code, Requests: methods(s.taken()), Says: s.firstLine(out)}
			r.Code = strings.Contains(out.Stderr+out.Stdout, "FencingToken")
			if client.uncounted {
				r.Requests = ""
			}
			if out.Code == 0 {
				r.Says = ""
			}
			found = append(found, r)
			// Whatever the client makes of it: nothing was done.
			if !client.alone {
				assert.NoError(t, s.lacks("late"))
				assert.NoError(t, s.holds("small", smallBody))
			}
			_ = os.Remove(s.file("late"))
		}
	}
	s.proxy.Take(t, s.scope(), "next@host")
	try("stale")
	s.keys = Fenced{AccessKey: m.plain.AccessKey, SecretKey: m.plain.SecretKey}
	if !client.patient || atAllSites() {
		try("missing")
	}
	return found
}

// compare holds what was found against what is kept, for the sites where the client
// was run, and leaves versions out.
func (m *matrix) compare(t *testing.T, client *matrixClient, got record) {
	t.Helper()
	path := filepath.Join("testdata", "clients", client.name+".json")
	var kept record
	text, err := os.ReadFile(path)
	if err == nil {
		require.NoError(t, json.Unmarshal(text, &kept))
	} else if !errors.Is(err, fs.ErrNotExist) || !*updateMatrix {
		require.NoError(t, err)
	}
	ran := slices.Sorted(maps.Keys(got.Operations))
	for name, verdicts := range kept.Operations {
		if got.Operations[name] == nil {
			got.Operations[name] = verdicts
		}
	}
	if client.patient && !atAllSites() {
		for _, r := range kept.Refusals {
			if r.Token == "missing" {
				got.Refusals = append(got.Refusals, r)
			}
		}
	}
	if *updateMatrix {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "\t")
		require.NoError(t, e.Encode(got))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		return
	}
	kept.Version = got.Version
	assert.Equal(t, kept, got, "%s does not do what %s says (tried at %q); if it is right now, run this test with -update", client.title, path, ran)
}

// file is the path of a file in the site's folder.
func (s *site) file(name string) string { return filepath.Join(s.work, name) }

func (s *site) read(name string) string {
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// got looks at a file that the client wrote, and removes it.
func (s *site) got(name, want string) error {
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		return fmt.Errorf("the client wrote no %s", filepath.Base(name))
	}
	if string(text) != want {
		return fmt.Errorf("%s has %d bytes that are not the object's", filepath.Base(name), len(text))
	}
	return os.Remove(s.file(name))
}

// send sends a request of the harness past the tap, with the site's credentials.
func (s *site) send(method, key, body string, header map[string]string) Answer {
	s.t.Helper()
	return s.proxy.Send(s.t, Request{Method: method, Bucket: s.bucket, Key: s.prefix + key, Body: body, Header: header})
}

// put makes an object behind the client's back.
func (s *site) put(key, body string) {
	s.t.Helper()
	s.proxy.Send(s.t, s.keys.sign(Request{Method: "PUT", Bucket: s.bucket, Key: s.prefix + key, Body: body})).Want(s.t, 200)
}

// fill makes the tree of odd names below a prefix.
func (s *site) fill(prefix string) {
	s.t.Helper()
	for name, body := range oddTree {
		if s.holds(prefix+name, body) != nil {
			s.put(prefix+name, body)
		}
	}
}

// holds and lacks look at the store through the proxy, with credentials that no
// stale token shuts out.
func (s *site) holds(key, body string) error {
	answer := s.send("GET", key, "", nil)
	if answer.Status != http.StatusOK {
		return fmt.Errorf("%s is not stored: %d", key, answer.Status)
	}
	if answer.Body != body {
		return fmt.Errorf("%s has %d bytes that are not the file's", key, len(answer.Body))
	}
	return nil
}

func (s *site) lacks(key string) error {
	if answer := s.send("GET", key, "", nil); answer.Status != http.StatusNotFound {
		return fmt.Errorf("%s is stored: %d", key, answer.Status)
	}
	return nil
}

// holdsParts looks for the big object, and that it came in parts.
func (s *site) holdsParts(key string) error {
	answer := s.send("GET", key, "", nil)
	if answer.Status != http.StatusOK || answer.Body != s.read("big") {
		return fmt.Errorf("%s is not what was uploaded: %d, %d bytes", key, answer.Status, len(answer.Body))
	}
	if etag := answer.Header.Get("ETag"); !strings.Contains(etag, "-") {
		return fmt.Errorf("%s was not uploaded in parts: its ETag is %s", key, etag)
	}
	return nil
}

// list has a line for each object below a prefix.
func (s *site) list(prefix string) []string {
	s.t.Helper()
	var l listing
	s.proxy.Send(s.t, Request{Method: "GET", Bucket: s.bucket, Query: map[string][]string{"list-type": {"2"}, "prefix": {s.prefix + prefix}}}).Want(s.t, 200).XML(s.t, &l)
	var lines []string
	for _, o := range l.Contents {
		lines = append(lines, o.Key+" "+o.ETag+" "+o.LastModified)
	}
	return lines
}

// taken returns what came by the tap since it was last asked.
func (s *site) taken() []Tapped {
	if s.tap == nil {
		return nil
	}
	return s.tap.Take()
}

// curl follows a link.
func (s *site) curl(args ...string) Output {
	s.t.Helper()
	return command(s.t, s.work, environment(s.work, s.env()), "", "curl", append([]string{"-sS", "--fail-with-body"}, args...)...)
}

var linkPattern = regexp.MustCompile(`https?://\S+`)

// link finds the last one in what a client says.
func link(said string) string {
	all := linkPattern.FindAllString(said, -1)
	if len(all) == 0 {
		return said
	}
	return all[len(all)-1]
}

// failure is nil where the command said that it is done.
func (o Output) failure() error {
	if o.Code == 0 {
		return nil
	}
	return fmt.Errorf("exit code %d: %s", o.Code, strings.TrimSpace(o.Stderr+"\n"+o.Stdout))
}

// first returns the error, or the first of the checks.
func first(err error, checks ...func() error) error {
	for _, check := range checks {
		if err != nil {
			return err
		}
		err = check()
	}
	return err
}

// methods counts requests: "GET, 3 × (HEAD, PUT), 2 DELETE".
func methods(seen []Tapped) string {
	var all []string
	for i := 0; i < len(seen); {
		length, times := 1, 1
		for l := 1; l <= 3; l++ {
			n := 1
			for repeats(seen, i, l, n) {
				n++
			}
			if n > 1 && n*l > length*times {
				length, times = l, n
			}
		}
		var group []string
		for _, r := range seen[i : i+length] {
			group = append(group, r.Method)
		}
		text := strings.Join(group, ", ")
		switch {
		case times > 1 && length > 1:
			text = fmt.Sprintf("%d × (%s)", times, text)
		case times > 1:
			text = fmt.Sprintf("%d %s", times, text)
		}
		all = append(all, text)
		i += length * times
	}
	return strings.Join(all, ", ")
}

// repeats reports whether the l requests at i come again n times l later.
func repeats(seen []Tapped, i, l, n int) bool {
	if i+(n+1)*l > len(seen) {
		return false
	}
	for j := range l {
		if seen[i+j].Method != seen[i+n*l+j].Method {
			return false
		}
	}
	return true
}

// firstLine is the first that a person reads of what a client says.
func (s *site) firstLine(o Output) string {
	for _, stream := range []string{o.Stderr, o.Stdout} {
		for line := range strings.SplitSeq(stream, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				return s.normal(line)
			}
		}
	}
	return ""
}

var changing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\x1b\[[0-9;]*m`), ""},
	{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`([Rr]equest ?[Ii][Dd]:? |<RequestId>)[0-9A-Za-z-]+`), "${1}ID"},
	{regexp.MustCompile(`\b([Tt]oken |[Tt]oken>|HighestToken>)\d+`), "${1}N"},
	{regexp.MustCompile(`: \d+ was granted`), ": N was granted"},
	{regexp.MustCompile(`([Hh]ost ?[Ii][Dd](: |>))[0-9A-Za-z+/=]+`), "${1}ID"},
	{regexp.MustCompile(`lock/[0-9a-f]{10}`), "lock/ID"},
	{regexp.MustCompile(`(\d+ \w+ ago|just now)`), "T ago"},
}

// normal takes out of a text what differs from run to run, and keeps one line.
func (s *site) normal(text string) string {
	text = strings.NewReplacer(s.endpoint, "ENDPOINT", strings.TrimPrefix(s.endpoint, "http://"), "ENDPOINT", s.bucket, "demo", s.prefix, "jobs/", s.work, ".").Replace(text)
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.with)
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return text
}
