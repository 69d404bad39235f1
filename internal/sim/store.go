package sim

import (
	"crypto/md5" //nolint:gosec // S3's ETags and Content-MD5 are MD5
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// store is an S3 store as far as the product asks for one. Each of its requests is
// done whole, in one step.
type store struct {
	w *world
	// taker is who takes its requests.
	taker *actor
	// deleted is told of each key that is deleted.
	deleted func(key string)

	mu      sync.Mutex
	blobs   map[string]*blob // by bucket/key
	uploads map[string]*uploadOf
	made    int // upload ids
	// clocks are how far those of the nodes are off.
	clocks [2]time.Duration
	// labels say of a physical key whose object it is, and counts how many there were.
	labels map[string]string
	counts map[string]int
}

// blob is an object, or what is left of one that was deleted (gone).
type blob struct {
	body  []byte
	etag  string
	kept  http.Header
	stamp time.Time
	gone  bool
}

type uploadOf struct {
	key   string
	kept  http.Header
	parts map[int]*blob
	began time.Time
}

func newStore(w *world) *store {
	return &store{w: w, taker: &actor{name: "store"}, blobs: map[string]*blob{}, uploads: map[string]*uploadOf{}, labels: map[string]string{}, counts: map[string]int{}}
}

// asked is a request as it is on its way.
type asked struct {
	method string
	key    string // with the bucket
	query  url.Values
	header http.Header
	body   []byte
	label  string
	// node of the store that takes it.
	node int
}

func (a *asked) mutates() bool { return a.method != http.MethodGet && a.method != http.MethodHead }

// told is an answer on its way.
type told struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// name says of what object a request is, without the random parts of physical keys.
func (s *store) name(a *asked) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, key, _ := strings.Cut(a.key, "/")
	physical := strings.HasPrefix(key, ".s3fence/objects/")
	if logical, err := base64.RawURLEncoding.DecodeString(a.header.Get("X-Amz-Meta-S3fence-Key")); err == nil && len(logical) > 0 {
		if s.labels[a.key] == "" {
			s.labels[a.key] = string(logical)
		}
		key = string(logical)
	} else if physical {
		key = "bytes of " + s.labels[a.key]
	}
	what := a.method + " " + key
	for _, p := range []string{"uploads", "uploadId", "partNumber", "delete", "list-type", "tagging"} {
		switch {
		case p == "partNumber" && a.query.Has(p):
			what += " part " + a.query.Get(p)
		case p == "list-type" && a.query.Has(p) && strings.HasPrefix(a.query.Get("prefix"), ".s3fence/"):
			what += " list bytes"
		case p == "list-type" && a.query.Has(p):
			what += " list " + a.query.Get("prefix")
		case a.query.Has(p):
			what += " " + p
		}
	}
	return what
}

func failed(status int, code string, message ...string) told {
	return told{status: status, header: http.Header{"Content-Type": {"application/xml"}},
		body: fmt.Appendf(nil, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, strings.Join(message, ""))}
}

func answered(header http.Header, body []byte) told {
	if header == nil {
		header = http.Header{}
	}
	return told{status: http.StatusOK, header: header, body: body}
}

func document(format string, args ...any) told {
	return answered(http.Header{"Content-Type": {"application/xml"}}, fmt.Appendf(nil, format, args...))
}

// late refuses a request whose signature has run out by the clock of the node.
func (s *store) late(a *asked) bool {
	now := time.Now().Add(s.clocks[a.node])
	at, err := time.Parse("20060102T150405Z", a.query.Get("X-Amz-Date")+a.header.Get("X-Amz-Date"))
	if err != nil {
		return true
	}
	if seconds, err := strconv.Atoi(a.query.Get("X-Amz-Expires")); err == nil {
		return now.After(at.Add(time.Duration(seconds)*time.Second)) || at.After(now.Add(15*time.Minute))
	}
	return now.Sub(at).Abs() > 15*time.Minute
}

// do does a request. lies are those that it is told to tell.
func (s *store) do(a *asked, lie bool) told {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := a.query
	switch {
	case s.late(a):
		return failed(http.StatusForbidden, "AccessDenied", "Request has expired")
	case a.method == http.MethodGet && q.Has("list-type"):
		return s.list(a)
	case a.method == http.MethodGet && q.Has("uploads"):
		return s.listUploads(a)
	case a.method == http.MethodGet && q.Has("uploadId"):
		return s.listParts(a)
	case a.method == http.MethodGet && q.Has("tagging"):
		return failed(http.StatusNotImplemented, "NotImplemented")
	case a.method == http.MethodGet || a.method == http.MethodHead:
		return s.get(a)
	case a.method == http.MethodPost && q.Has("delete"):
		return s.deleteMany(a)
	case a.method == http.MethodPost && q.Has("uploads"):
		s.made++
		id := fmt.Sprintf("up%d", s.made)
		s.uploads[id] = &uploadOf{key: a.key, kept: kept(a.header), parts: map[int]*blob{}, began: time.Now()}
		return document("<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case a.method == http.MethodPost && q.Has("uploadId"):
		return s.complete(a, lie)
	case a.method == http.MethodPut:
		return s.put(a, lie)
	case a.method == http.MethodDelete && q.Has("uploadId"):
		if s.uploads[q.Get("uploadId")] == nil {
			return failed(http.StatusNotFound, "NoSuchUpload")
		}
		delete(s.uploads, q.Get("uploadId"))
		return told{status: http.StatusNoContent, header: http.Header{}}
	case a.method == http.MethodDelete:
		s.remove(a.key, a.node)
		return told{status: http.StatusNoContent, header: http.Header{}}
	}
	return failed(http.StatusNotImplemented, "NotImplemented")
}

func kept(h http.Header) http.Header {
	k := http.Header{}
	for name, v := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" {
			k[name] = slices.Clone(v)
		}
	}
	return k
}

// write makes a blob the object, unless another one was written later by its clock.
// Keys that clients name have one clock.
func (s *store) write(key string, b *blob, node int) {
	b.stamp = time.Now().Add(s.clocks[node])
	if old := s.blobs[key]; old != nil && old.stamp.After(b.stamp) && strings.Contains(key, "/.s3fence/") {
		return
	}
	s.blobs[key] = b
}

func (s *store) remove(key string, node int) {
	if b := s.blobs[key]; b != nil && !b.gone && s.deleted != nil {
		s.deleted(key)
	}
	s.write(key, &blob{gone: true}, node)
}

func (s *store) at(key string) *blob {
	if b := s.blobs[key]; b != nil && !b.gone {
		return b
	}
	return nil
}

func blobOf(body []byte, h http.Header) *blob {
	sum := md5.Sum(body) //nolint:gosec // see the import
	return &blob{body: body, etag: hex.EncodeToString(sum[:]), kept: kept(h)}
}

func (s *store) put(a *asked, lie bool) told {
	b := blobOf(a.body, a.header)
	if sent := a.header.Get("Content-Md5"); sent != "" {
		if sum, err := base64.StdEncoding.DecodeString(sent); err != nil || hex.EncodeToString(sum) != b.etag {
			return failed(http.StatusBadRequest, "BadDigest")
		}
	}
	from := a.header.Get("X-Amz-Copy-Source")
	if from != "" {
		name, err := url.PathUnescape(from)
		src := s.at(strings.TrimPrefix(name, "/"))
		switch want := a.header.Get("X-Amz-Copy-Source-If-Match"); {
		case err != nil || src == nil:
			return failed(http.StatusNotFound, "NoSuchKey")
		case want != "" && strings.Trim(want, `"`) != src.etag:
			return failed(http.StatusPreconditionFailed, "PreconditionFailed")
		}
		b = blobOf(src.body, a.header)
		if a.header.Get("X-Amz-Metadata-Directive") != "REPLACE" && a.header.Get("X-Amz-Meta-S3fence-Key") == "" {
			b.kept = maps.Clone(src.kept)
		}
	}
	if lie && from == "" && len(b.body) > 0 {
		body := slices.Clone(b.body)
		body[0] ^= 1
		b = blobOf(body, a.header)
	}
	if id := a.query.Get("uploadId"); id != "" {
		up := s.uploads[id]
		if up == nil || up.key != a.key {
			return failed(http.StatusNotFound, "NoSuchUpload")
		}
		n, err := strconv.Atoi(a.query.Get("partNumber"))
		if err != nil {
			return failed(http.StatusBadRequest, "InvalidArgument")
		}
		up.parts[n] = b
	} else {
		s.write(a.key, b, a.node)
	}
	if from != "" {
		return document("<CopyResult><ETag>&quot;%s&quot;</ETag></CopyResult>", b.etag)
	}
	return answered(http.Header{"Etag": {`"` + b.etag + `"`}}, nil)
}

func (s *store) complete(a *asked, lie bool) told {
	up := s.uploads[a.query.Get("uploadId")]
	if up == nil || up.key != a.key {
		return failed(http.StatusNotFound, "NoSuchUpload")
	}
	var list struct {
		Parts []struct {
			PartNumber int
			ETag       string
		} `xml:"Part"`
	}
	if err := xml.Unmarshal(a.body, &list); err != nil {
		return failed(http.StatusBadRequest, "MalformedXML")
	}
	var body, sums []byte
	for _, p := range list.Parts {
		b := up.parts[p.PartNumber]
		if b == nil || b.etag != strings.Trim(p.ETag, `"`) {
			return failed(http.StatusBadRequest, "InvalidPart")
		}
		sum, _ := hex.DecodeString(b.etag)
		body, sums = append(body, b.body...), append(sums, sum...)
	}
	whole := md5.Sum(sums) //nolint:gosec // see the import
	etag := fmt.Sprintf("%x-%d", whole, len(list.Parts))
	answer := document("<CompleteMultipartUploadResult><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", etag)
	if lie {
		return answer
	}
	b := blobOf(body, nil)
	b.etag, b.kept = etag, up.kept
	s.write(a.key, b, a.node)
	delete(s.uploads, a.query.Get("uploadId"))
	return answer
}

func (s *store) get(a *asked) told {
	b := s.at(a.key)
	if b == nil {
		if a.method == http.MethodHead {
			return told{status: http.StatusNotFound, header: http.Header{}}
		}
		return failed(http.StatusNotFound, "NoSuchKey")
	}
	h := maps.Clone(b.kept)
	h.Set("Etag", `"`+b.etag+`"`)
	h.Set("Content-Length", strconv.Itoa(len(b.body)))
	h.Set("Last-Modified", b.stamp.UTC().Format(http.TimeFormat))
	t := answered(h, b.body)
	if a.method == http.MethodHead {
		t.body = nil
	}
	return t
}
