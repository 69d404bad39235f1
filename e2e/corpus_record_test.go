//go:build record

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// TestRecordCorpus writes internal/corpus/testdata anew: every client of the matrix
// works at every site, through a listener that keeps what it says; another one, between
// the proxies and the store, keeps what the store answers. make corpus runs it.
func TestRecordCorpus(t *testing.T) {
	dir := filepath.Join("..", "internal", "corpus", "testdata")
	for _, old := range []string{"requests", "answers"} {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, old)))
	}
	rec := &recorder{dir: dir, secrets: map[string]string{}, written: map[string]int{}}
	versions := map[string]string{}

	for _, kind := range []struct {
		name   string
		server *storetest.Server
	}{{"minio", storetest.MinIO(t)}, {"versitygw", storetest.Versitygw(t)}} {
		server := *kind.server
		behind := rec.listen(t, strings.TrimPrefix(server.Endpoint, "http://"), nil, nil)
		server.Endpoint = "http://" + behind.addr
		rec.secrets[server.AccessKey] = server.SecretKey
		guards := []Guard{{Prefix: "sealed/*/"}}
		plain := NewCluster(t, Options{Guards: guards, MinIO: &server})
		secure := NewCluster(t, Options{Guards: guards, MinIO: &server, TLS: true})
		rec.secrets[plain.AccessKey] = plain.SecretKey
		m := &matrix{plain: plain, secure: secure, open: map[*Cluster]string{plain: plain.NewBucket(), secure: secure.NewBucket()}, files: filesOfMatrix(t)}
		var tap *wiretap
		m.via = func(s *site) {
			if s.proxy.cluster.cert == nil {
				tap = rec.listen(t, s.proxy.addr, nil, nil)
				s.endpoint = "http://" + tap.addr
			} else {
				cert, err := tls.LoadX509KeyPair(s.proxy.cluster.cert.certFile, s.proxy.cluster.cert.keyFile)
				require.NoError(t, err)
				tap = rec.listen(t, s.proxy.addr, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, s.proxy.cluster.cert.client)
				s.endpoint = "https://" + tap.addr
			}
			s.tap = nil
		}
		for _, client := range matrixClients(t) {
			version, missing := client.version(t)
			if missing != "" {
				t.Logf("not recorded: %s", missing)
				continue
			}
			if client.uncounted {
				continue // it sends what was recorded already
			}
			if kind.name != "minio" && client.slow {
				continue // the store's words are wanted; two clients draw them all out
			}
			versions[client.name] = version
			for _, name := range siteNames {
				s := m.site(t, client, name, "")
				for _, o := range operations {
					do := client.do[o.name]
					if do == nil {
						continue
					}
					var err error
					if client.alone {
						err = do(s, "").failure()
					} else {
						err = o.try(s, do)
					}
					if err != nil {
						t.Logf("%s at %s: %s: %v", client.name, name, o.name, err)
					}
				}
				rec.secrets[s.keys.AccessKey] = s.keys.SecretKey
				folder := client.name
				if strings.HasSuffix(name, "https") {
					folder += "-tls"
				}
				if kind.name == "minio" {
					rec.requests(t, tap, folder)
				}
			}
		}
		rec.requests(t, behind, "s3fence")
		rec.answers(t, behind, kind.name)
	}
	rec.writeJSON(t, "secrets.json", rec.used)
	rec.writeJSON(t, "versions.json", versions)
}

// recorder writes what was said into files, each kind of request once.
type recorder struct {
	dir     string
	secrets map[string]string
	// used are those of secrets whose requests were kept.
	used map[string]string
	// written counts the files of each name, and marks the shapes that there are.
	written map[string]int
}

// wiretap is a listener before one server. It looks into TLS, as whom it has the
// server's own certificate.
type wiretap struct {
	addr string
	mu   sync.Mutex
	said []*dialogue
}

// dialogue is one connection, each direction as it went over it.
type dialogue struct {
	mu           sync.Mutex
	asked, given bytes.Buffer
}

// into is a writer for one direction of a dialogue.
type into struct {
	d *dialogue
	b *bytes.Buffer
}

func (w into) Write(p []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return w.b.Write(p)
}

func (rec *recorder) listen(t *testing.T, target string, serve, dial *tls.Config) *wiretap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	tap := &wiretap{addr: listener.Addr().String()}
	t.Cleanup(func() { _ = listener.Close() })
	if serve != nil {
		listener = tls.NewListener(listener, serve)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				server, err := net.DialTimeout("tcp", target, 10*time.Second)
				if err != nil {
					return
				}
				if dial != nil {
					config := dial.Clone()
					config.ServerName = "127.0.0.1"
					server = tls.Client(server, config)
				}
				defer server.Close()
				d := &dialogue{}
				tap.mu.Lock()
				tap.said = append(tap.said, d)
				tap.mu.Unlock()
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = io.Copy(server, io.TeeReader(conn, into{d, &d.asked}))
					if c, ok := server.(interface{ CloseWrite() error }); ok {
						_ = c.CloseWrite()
					}
				}()
				_, _ = io.Copy(conn, io.TeeReader(server, into{d, &d.given}))
				_ = conn.Close()
				<-done
			}()
		}
	}()
	return tap
}

// exchange is one request with its final answer, as they went over the wire.
type exchange struct {
	request  *http.Request
	asked    []byte
	bodySize int64
	response *http.Response
	given    []byte
	// givenSize is the length of the answer's body.
	givenSize int64
}

// exchanges takes dialogues apart.
func (tap *wiretap) exchanges(t *testing.T) (all []exchange) {
	t.Helper()
	tap.mu.Lock()
	defer tap.mu.Unlock()
	for _, d := range tap.said {
		d.mu.Lock()
		asked, given := bytes.Clone(d.asked.Bytes()), bytes.Clone(d.given.Bytes())
		d.mu.Unlock()
		from, to := cutter(asked), cutter(given)
		for {
			begin := from.at()
			r, err := http.ReadRequest(from.in)
			if err != nil {
				break // the end, or TLS from a client that was told of none
			}
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				break
			}
			e := exchange{request: r, asked: asked[begin:from.at()], bodySize: n}
			for {
				begin := to.at()
				resp, err := http.ReadResponse(to.in, r)
				if err != nil {
					break
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil {
					break
				}
				if resp.StatusCode >= 200 {
					e.response, e.given, e.givenSize = resp, given[begin:to.at()], n
					break
				}
			}
			all = append(all, e)
		}
	}
	return all
}

// cut reads messages and knows where it is.
type cut struct {
	all []byte
	src *bytes.Reader
	in  *bufio.Reader
}

func cutter(all []byte) *cut {
	src := bytes.NewReader(all)
	return &cut{all, src, bufio.NewReader(src)}
}

func (c *cut) at() int { return len(c.all) - c.src.Len() - c.in.Buffered() }

// Bodies above wholeBody are cut to cutBody bytes: signatures of chunks and digests
// need all of it, and the rest of a large one teaches nothing.
const (
	wholeBody = 4 << 10
	cutBody   = 256
)

// requests writes what a client asked for.
func (rec *recorder) requests(t *testing.T, tap *wiretap, folder string) {
	t.Helper()
	for _, e := range tap.exchanges(t) {
		r := e.request
		if folder == "s3fence" && strings.HasPrefix(r.UserAgent(), "MinIO") {
			continue // the harness's own
		}
		key := accessKey(r)
		if key == "" || rec.secrets[key] == "" {
			continue
		}
		var headers []string
		for name := range r.Header {
			headers = append(headers, name)
		}
		slices.Sort(headers)
		name := filepath.Join("requests", folder, named(r))
		shape := fmt.Sprint(name, slices.Sorted(maps.Keys(r.URL.Query())), headers, r.Header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD",
			strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING"), e.bodySize == 0, strings.Contains(r.RequestURI, "%"))
		raw, whole := shortened(e.asked, e.bodySize)
		rec.keep(t, name, shape, plainAgent(raw), whole)
		if rec.used == nil {
			rec.used = map[string]string{}
		}
		rec.used[key] = rec.secrets[key]
	}
}

// answers writes what a store answered.
func (rec *recorder) answers(t *testing.T, tap *wiretap, store string) {
	t.Helper()
	for _, e := range tap.exchanges(t) {
		if e.response == nil {
			continue
		}
		name := filepath.Join("answers", store, fmt.Sprintf("%s-%d", named(e.request), e.response.StatusCode))
		shape := fmt.Sprint(name, slices.Sorted(maps.Keys(e.response.Header)), e.givenSize == 0)
		raw, whole := shortened(e.given, e.givenSize)
		rec.keep(t, name, shape, raw, whole)
	}
}

func shortened(raw []byte, body int64) (kept []byte, whole bool) {
	if body <= wholeBody {
		return raw, true
	}
	head := bytes.Index(raw, []byte("\r\n\r\n")) + 4
	return raw[:min(len(raw), head+cutBody)], false
}

func (rec *recorder) keep(t *testing.T, name, shape string, raw []byte, whole bool) {
	t.Helper()
	if rec.written[shape]++; rec.written[shape] > 1 {
		return
	}
	rec.written[name]++
	file := fmt.Sprintf("%s.%d", name, rec.written[name])
	if !whole {
		file += ".cut"
	}
	path := filepath.Join(rec.dir, file+".http")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func (rec *recorder) writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(rec.dir, name), append(b, '\n'), 0o600))
}

var agents = regexp.MustCompile(`(?im)^(user-agent: .*?)((?:os/)?linux[/#])\d[^ ;)]*`)

// plainAgent takes the kernel's version out of the user agent, which nobody signs.
func plainAgent(raw []byte) []byte { return agents.ReplaceAll(raw, []byte("${1}${2}6")) }

// accessKey is who signed a request; empty where it is not signed.
func accessKey(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if q := r.URL.Query().Get("X-Amz-Credential"); q != "" {
		credential = q
	}
	key, _, _ := strings.Cut(credential, "/")
	return key
}

// named says which operation of S3 a request is, from the request syntax of each in
// the S3 API reference, without the product's own table: path style alone.
func named(r *http.Request) string {
	path, rawQuery, _ := strings.Cut(r.RequestURI, "?")
	query, _ := url.ParseQuery(rawQuery)
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	verb := map[string]string{"GET": "Get", "HEAD": "Head", "PUT": "Put", "POST": "Post", "DELETE": "Delete"}[r.Method]
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	object := map[string]string{
		"tagging": "ObjectTagging", "acl": "ObjectAcl", "legal-hold": "ObjectLegalHold", "retention": "ObjectRetention", "attributes": "ObjectAttributes",
	}
	settings := map[string]string{
		"location": "BucketLocation", "versioning": "BucketVersioning", "object-lock": "ObjectLockConfiguration", "encryption": "BucketEncryption",
		"policy": "BucketPolicy", "acl": "BucketAcl", "tagging": "BucketTagging", "lifecycle": "BucketLifecycle", "notification": "BucketNotificationConfiguration",
		"cors": "BucketCors", "logging": "BucketLogging", "website": "BucketWebsite", "requestPayment": "BucketRequestPayment", "replication": "BucketReplication",
		"ownershipControls": "BucketOwnershipControls", "publicAccessBlock": "PublicAccessBlock", "policyStatus": "BucketPolicyStatus",
	}
	switch {
	case bucket == "":
		return "ListBuckets"
	case key == "":
		for q, name := range settings {
			if query.Has(q) {
				return verb + name
			}
		}
		switch {
		case r.Method == "GET" && query.Has("uploads"):
			return "ListMultipartUploads"
		case r.Method == "GET" && query.Has("versions"):
			return "ListObjectVersions"
		case r.Method == "GET" && query.Get("list-type") == "2":
			return "ListObjectsV2"
		case r.Method == "GET":
			return "ListObjects"
		case r.Method == "PUT":
			return "CreateBucket"
		case r.Method == "POST" && query.Has("delete"):
			return "DeleteObjects"
		case r.Method == "POST":
			return "PostObject"
		}
		return verb + "Bucket"
	}
	for q, name := range object {
		if query.Has(q) {
			return verb + name
		}
	}
	part := query.Has("uploadId")
	switch {
	case r.Method == "PUT" && part && copies:
		return "UploadPartCopy"
	case r.Method == "PUT" && part:
		return "UploadPart"
	case r.Method == "PUT" && copies:
		return "CopyObject"
	case r.Method == "POST" && query.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == "POST" && part:
		return "CompleteMultipartUpload"
	case r.Method == "DELETE" && part:
		return "AbortMultipartUpload"
	case r.Method == "GET" && part:
		return "ListParts"
	}
	return verb + "Object"
}
