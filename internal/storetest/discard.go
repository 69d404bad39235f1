package storetest

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Bounds of S3 that a [Discard] keeps.
const (
	discardMaxPut  = 5 << 30
	discardMinPart = 5 << 20
	discardMaxPart = 10_000
	// discardKept is the largest body that can be read again.
	discardKept = 64 << 10
)

// Discard is an S3 store in this process that hashes what it is sent and drops the
// bytes, for sizes that no disk of a test takes. It knows what this product asks of
// a store: objects, copies, uploads, ListObjectsV2, batch deletes. It verifies
// lengths, Content-MD5 and a SHA-256 that the request names, refuses what S3
// refuses by size, and answers with true ETags and sizes. It verifies no
// signature, and bodies of more than 64 KiB cannot be read again. Safe for
// concurrent use.
type Discard struct {
	// Bytes counts the bytes of bodies of objects and parts, Requests the requests.
	Bytes, Requests atomic.Int64

	mu      sync.Mutex
	buckets map[string]*discardBucket
	uploads map[string]*discardUpload
}

type discardBucket struct {
	objects map[string]discardObject
	keys    []string // sorted
}

type discardObject struct {
	size     int64
	etag     string
	modified time.Time
	header   http.Header
	body     []byte // nil where dropped
}

type discardUpload struct {
	bucket, key string
	header      http.Header
	parts       map[int]discardObject
}

// StartDiscard starts such a store for this test alone.
func StartDiscard(t testing.TB) (*Server, *Discard) {
	t.Helper()
	d := &Discard{buckets: map[string]*discardBucket{}, uploads: map[string]*discardUpload{}}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	return &Server{Endpoint: server.URL, AccessKey: "discard", SecretKey: rand.Text(), shared: true}, d
}

// Fill makes objects with these keys, each with its key as body.
func (d *Discard) Fill(bucket string, keys []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.buckets[bucket]
	for _, key := range keys {
		sum := md5.Sum([]byte(key))
		b.objects[key] = discardObject{size: int64(len(key)), etag: hex.EncodeToString(sum[:]), modified: time.Now(), body: []byte(key)}
	}
	b.keys = slices.Sorted(maps.Keys(b.objects))
}

// Objects counts the objects of a bucket.
func (d *Discard) Objects(bucket string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.buckets[bucket]; b != nil {
		return len(b.keys)
	}
	return 0
}

func (b *discardBucket) put(key string, o discardObject) {
	if at, found := slices.BinarySearch(b.keys, key); !found {
		b.keys = slices.Insert(b.keys, at, key)
	}
	b.objects[key] = o
}

func (b *discardBucket) drop(key string) {
	if at, found := slices.BinarySearch(b.keys, key); found {
		b.keys = slices.Delete(b.keys, at, at+1)
		delete(b.objects, key)
	}
}

// ServeHTTP answers one request.
func (d *Discard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.Requests.Add(1)
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	path, err := url.PathUnescape(raw)
	query, qerr := url.ParseQuery(r.URL.RawQuery)
	if err != nil || qerr != nil {
		discardFail(w, 400, "InvalidURI")
		return
	}
	for p := range query {
		if strings.HasPrefix(p, "X-Amz-") || p == "x-id" {
			delete(query, p) // of the signature, or no matter
		}
	}
	name, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	d.mu.Lock()
	bucket := d.buckets[name]
	if bucket == nil && key == "" && r.Method == http.MethodPut {
		d.buckets[name] = &discardBucket{objects: map[string]discardObject{}}
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	switch has := query.Has; {
	case name == "":
		discardXML(w, struct {
			XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		}{})
	case bucket == nil:
		discardFail(w, 404, "NoSuchBucket")
	case key == "":
		d.serveBucket(w, r, bucket, query)
	case has("uploadId") || has("uploads"):
		d.serveUpload(w, r, name, key, bucket, query)
	case has("tagging") && r.Method == http.MethodGet:
		discardXML(w, struct {
			XMLName xml.Name `xml:"Tagging"`
			TagSet  struct{}
		}{})
	case len(query) > 0:
		discardFail(w, 501, "NotImplemented")
	default:
		d.serveObject(w, r, bucket, key)
	}
}

func (d *Discard) serveBucket(w http.ResponseWriter, r *http.Request, b *discardBucket, query url.Values) {
	switch {
	case query.Has("location"):
		discardXML(w, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
		}{})
	case query.Has("uploads"):
		discardXML(w, struct {
			XMLName     xml.Name `xml:"ListMultipartUploadsResult"`
			IsTruncated bool
		}{})
	case query.Get("list-type") == "2":
		d.list(w, b, query)
	case query.Has("delete"):
		var in struct {
			Object []struct{ Key string }
		}
		if err := xml.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Object) > 1000 {
			discardFail(w, 400, "MalformedXML")
			return
		}
		type deleted struct{ Key string }
		var out struct {
			XMLName xml.Name `xml:"DeleteResult"`
			Deleted []deleted
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, o := range in.Object {
			b.drop(o.Key)
			out.Deleted = append(out.Deleted, deleted(o))
		}
		discardXML(w, out)
	case r.Method == http.MethodHead:
	default:
		discardFail(w, 501, "NotImplemented")
	}
}

// list answers ListObjectsV2. A page costs its own length, wherever it begins.
func (d *Discard) list(w http.ResponseWriter, b *discardBucket, q url.Values) {
	type entry struct {
		Key, ETag, StorageClass string
		Size                    int64
		LastModified            time.Time
	}
	type common struct{ Prefix string }
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		EncodingType          string   `xml:",omitempty"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []entry
		CommonPrefixes        []common
	}{EncodingType: q.Get("encoding-type")}
	written := func(s string) string {
		if out.EncodingType == "url" {
			return url.QueryEscape(s)
		}
		return s
	}
	most := 1000
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil {
		most = min(n, most)
	}
	prefix, delimiter := q.Get("prefix"), q.Get("delimiter")
	d.mu.Lock()
	defer d.mu.Unlock()
	at, _ := slices.BinarySearch(b.keys, prefix)
	after := q.Get("start-after") + "\x00"
	if token := q.Get("continuation-token"); token != "" {
		next, err := hex.DecodeString(token)
		if err != nil {
			discardFail(w, 400, "InvalidArgument")
			return
		}
		after = string(next)
	}
	if from, _ := slices.BinarySearch(b.keys, after); from > at {
		at = from
	}
	for at < len(b.keys) && strings.HasPrefix(b.keys[at], prefix) {
		key := b.keys[at]
		if len(out.Contents)+len(out.CommonPrefixes) == most {
			out.IsTruncated, out.NextContinuationToken = true, hex.EncodeToString([]byte(key))
			break
		}
		if cut := strings.Index(key[len(prefix):], delimiter); delimiter != "" && cut >= 0 {
			rolled := key[:len(prefix)+cut+len(delimiter)]
			n, _ := slices.BinarySearchFunc(b.keys[at:], rolled, func(k, rolled string) int {
				if strings.HasPrefix(k, rolled) {
					return -1
				}
				return strings.Compare(k, rolled)
			})
			at += n
			if rolled >= strings.TrimSuffix(after, "\x00") {
				out.CommonPrefixes = append(out.CommonPrefixes, common{written(rolled)})
			}
			continue
		}
		o := b.objects[key]
		out.Contents = append(out.Contents, entry{written(key), `"` + o.etag + `"`, "STANDARD", o.size, o.modified.UTC()})
		at++
	}
	discardXML(w, out)
}

func (d *Discard) serveObject(w http.ResponseWriter, r *http.Request, b *discardBucket, key string) {
	switch r.Method {
	case http.MethodPut:
		o, ok := d.take(w, r)
		if !ok {
			return
		}
		d.mu.Lock()
		b.put(key, o)
		d.mu.Unlock()
		if r.Header.Get("X-Amz-Copy-Source") != "" {
			discardCopied(w, o)
			return
		}
		w.Header().Set("ETag", `"`+o.etag+`"`)
	case http.MethodGet, http.MethodHead:
		d.mu.Lock()
		o, found := b.objects[key]
		d.mu.Unlock()
		if !found {
			discardFail(w, 404, "NoSuchKey")
			return
		}
		maps.Copy(w.Header(), o.header)
		w.Header().Set("ETag", `"`+o.etag+`"`)
		w.Header().Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
			return
		}
		if int64(len(o.body)) != o.size {
			discardFail(w, 500, "InternalError")
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(o.body)))
	case http.MethodDelete:
		d.mu.Lock()
		b.drop(key)
		d.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		discardFail(w, 501, "NotImplemented")
	}
}

// take makes an object of a request's body, or of the source of a copy.
func (d *Discard) take(w http.ResponseWriter, r *http.Request) (o discardObject, ok bool) {
	o.modified, o.header = time.Now(), discardHeader(r)
	if source := r.Header.Get("X-Amz-Copy-Source"); source != "" {
		return o, d.copied(w, r, source, &o)
	}
	switch {
	case r.ContentLength < 0:
		discardFail(w, 411, "MissingContentLength")
		return o, false
	case r.ContentLength > discardMaxPut:
		discardFail(w, 400, "EntityTooLarge")
		return o, false
	}
	sum := md5.New()
	var sha hash.Hash
	to := []io.Writer{sum}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if len(payload) == 2*sha256.Size {
		sha = sha256.New()
		to = append(to, sha)
	}
	var kept strings.Builder
	if r.ContentLength <= discardKept {
		to = append(to, &kept)
	}
	n, err := io.CopyBuffer(io.MultiWriter(to...), struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
	d.Bytes.Add(n)
	digest := sum.Sum(nil)
	switch want := r.Header.Get("Content-Md5"); {
	case err != nil || n != r.ContentLength:
		discardFail(w, 400, "IncompleteBody")
	case want != "" && want != base64.StdEncoding.EncodeToString(digest):
		discardFail(w, 400, "BadDigest")
	case sha != nil && hex.EncodeToString(sha.Sum(nil)) != payload:
		discardFail(w, 400, "XAmzContentSHA256Mismatch")
	default:
		o.size, o.etag, o.body = n, hex.EncodeToString(digest), []byte(kept.String())
		return o, true
	}
	return o, false
}

// discardHeader is what an object keeps of the headers of its request.
func discardHeader(r *http.Request) http.Header {
	kept := http.Header{}
	for name, v := range r.Header {
		if name == "Content-Type" || name == "Content-Encoding" || strings.HasPrefix(name, "X-Amz-Meta-") {
			kept[name] = v
		}
	}
	return kept
}

// copied gives an object the size and, of a whole source, the digest of what it is
// copied from.
func (d *Discard) copied(w http.ResponseWriter, r *http.Request, source string, o *discardObject) bool {
	name, err := url.PathUnescape(source)
	bucket, key, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	d.mu.Lock()
	defer d.mu.Unlock()
	from, found := discardObject{}, false
	if b := d.buckets[bucket]; b != nil && err == nil {
		from, found = b.objects[key]
	}
	if !found {
		discardFail(w, 404, "NoSuchKey")
		return false
	}
	o.size, o.etag, o.body = from.size, from.etag, from.body
	if v := r.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		var first, last int64
		if _, err := fmt.Sscanf(v, "bytes=%d-%d", &first, &last); err != nil || first > last || last >= from.size {
			discardFail(w, 400, "InvalidArgument")
			return false
		}
		sum := md5.Sum([]byte(from.etag + v))
		o.size, o.etag, o.body = last-first+1, hex.EncodeToString(sum[:]), nil
	}
	return true
}

func (d *Discard) serveUpload(w http.ResponseWriter, r *http.Request, bucket, key string, b *discardBucket, query url.Values) {
	if query.Has("uploads") {
		id := rand.Text()
		d.mu.Lock()
		d.uploads[id] = &discardUpload{bucket, key, discardHeader(r), map[int]discardObject{}}
		d.mu.Unlock()
		discardXML(w, struct {
			XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
			Bucket, Key, UploadId string   //nolint:staticcheck // the name of the element
		}{Bucket: bucket, Key: key, UploadId: id})
		return
	}
	id := query.Get("uploadId")
	d.mu.Lock()
	up := d.uploads[id]
	d.mu.Unlock()
	if up == nil || up.bucket != bucket || up.key != key {
		discardFail(w, 404, "NoSuchUpload")
		return
	}
	switch r.Method {
	case http.MethodPut:
		n, err := strconv.Atoi(query.Get("partNumber"))
		if err != nil || n < 1 || n > discardMaxPart {
			discardFail(w, 400, "InvalidArgument")
			return
		}
		o, ok := d.take(w, r)
		if !ok {
			return
		}
		o.body = nil
		d.mu.Lock()
		up.parts[n] = o
		d.mu.Unlock()
		if r.Header.Get("X-Amz-Copy-Source") != "" {
			discardCopied(w, o)
			return
		}
		w.Header().Set("ETag", `"`+o.etag+`"`)
	case http.MethodGet:
		d.listParts(w, up, query)
	case http.MethodPost:
		d.complete(w, r, id, up, b)
	case http.MethodDelete:
		d.mu.Lock()
		delete(d.uploads, id)
		d.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *Discard) listParts(w http.ResponseWriter, up *discardUpload, q url.Values) {
	type part struct {
		PartNumber   int
		ETag         string
		Size         int64
		LastModified time.Time
	}
	out := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		IsTruncated          bool
		NextPartNumberMarker int
		Part                 []part
	}{}
	after, _ := strconv.Atoi(q.Get("part-number-marker"))
	most := 1000
	if n, err := strconv.Atoi(q.Get("max-parts")); err == nil {
		most = min(n, most)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(up.parts)) {
		if n <= after {
			continue
		}
		if len(out.Part) == most {
			out.IsTruncated = true
			break
		}
		o := up.parts[n]
		out.Part, out.NextPartNumberMarker = append(out.Part, part{n, `"` + o.etag + `"`, o.size, o.modified.UTC()}), n
	}
	discardXML(w, out)
}

func (d *Discard) complete(w http.ResponseWriter, r *http.Request, id string, up *discardUpload, b *discardBucket) {
	var in struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Part) == 0 || len(in.Part) > discardMaxPart {
		discardFail(w, 400, "MalformedXML")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	o := discardObject{modified: time.Now(), header: up.header}
	sum := md5.New()
	for i, p := range in.Part {
		have, found := up.parts[p.PartNumber]
		switch {
		case !found || have.etag != strings.Trim(p.ETag, `"`):
			discardFail(w, 400, "InvalidPart")
			return
		case i > 0 && p.PartNumber <= in.Part[i-1].PartNumber:
			discardFail(w, 400, "InvalidPartOrder")
			return
		case i < len(in.Part)-1 && have.size < discardMinPart:
			discardFail(w, 400, "EntityTooSmall")
			return
		}
		digest, _ := hex.DecodeString(have.etag)
		sum.Write(digest)
		o.size += have.size
	}
	o.etag = hex.EncodeToString(sum.Sum(nil)) + "-" + strconv.Itoa(len(in.Part))
	b.put(up.key, o)
	delete(d.uploads, id)
	discardXML(w, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: up.bucket, Key: up.key, ETag: `"` + o.etag + `"`})
}

func discardCopied(w http.ResponseWriter, o discardObject) {
	discardXML(w, struct {
		XMLName      xml.Name `xml:"CopyResult"`
		ETag         string
		LastModified time.Time
	}{ETag: `"` + o.etag + `"`, LastModified: o.modified.UTC()})
}

func discardXML(w http.ResponseWriter, doc any) {
	body, err := xml.Marshal(doc)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // whoever went away does not read it
}

func discardFail(w http.ResponseWriter, status int, code string) {
	body, _ := xml.Marshal(struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: code, Message: code})
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
