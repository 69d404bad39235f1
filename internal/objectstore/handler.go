package objectstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/signature"
)

// handler stands in front of gofakes3. It verifies every request, answers
// whatever touches an object's bytes, metadata or uploads by itself, since the
// front keeps uploads in memory, knows MD5 ETags only and judges conditions
// before it writes, and hands the rest (buckets, lists, tagging, the
// sub-resources nobody configured) to the front.
type handler struct {
	s      *Store
	front  http.Handler
	nextID atomic.Uint64
	boot   string
}

func newHandler(s *Store) *handler {
	front := gofakes3.New(&front{s},
		gofakes3.WithoutVersioning(),
		gofakes3.WithUnimplementedPageError(),
		gofakes3.WithLogger(frontLog{s.log}))
	return &handler{s: s, front: front.Server(), boot: rand.Text()[:8]}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amz-Request-Id", fmt.Sprintf("%s%08X", h.boot, h.nextID.Add(1)))
	if code := signature.V4SignVerifyWithLookup(r, h.secret); code != signature.ErrNone {
		e := signature.GetAPIError(code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(e.HTTPStatusCode)
		if r.Method != http.MethodHead {
			w.Write(signature.EncodeAPIErrorToResponseWithRequestID(e, w.Header().Get("X-Amz-Request-Id"))) //nolint:errcheck // the client is gone
		}
		return
	}
	if err := h.route(w, r); err != nil {
		h.writeError(w, r, err)
	}
}

func (h *handler) secret(accessKey string) (string, bool) {
	return h.s.opts.SecretKey, accessKey == h.s.opts.AccessKey
}

// signingParameters are the parts of a query that say how it is signed.
var signingParameters = map[string]bool{
	"X-Amz-Algorithm": true, "X-Amz-Credential": true, "X-Amz-Date": true, "X-Amz-Expires": true,
	"X-Amz-Signature": true, "X-Amz-Signedheaders": true, "X-Amz-Security-Token": true,
}

// request is what a verified request asks for.
type request struct {
	*http.Request
	bucket string
	key    []byte // nil for a bucket
	query  url.Values
	sub    string // the one sub-resource, "" for the plain object or bucket
}

func (h *handler) parse(r *http.Request) (request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return request{}, fail("InvalidURI", "the query cannot be parsed: %v", err)
	}
	q := request{Request: r, query: query}
	path, ok := strings.CutPrefix(r.URL.Path, "/")
	if !ok {
		return q, fail("InvalidURI", "the path %q does not begin with a slash", r.URL.Path)
	}
	var key string
	q.bucket, key, _ = strings.Cut(path, "/")
	if q.bucket == "" && path != "" {
		return q, fail("InvalidBucketName", "the path %q names no bucket", r.URL.Path)
	}
	if key != "" {
		q.key = []byte(key)
	}
	if len(key) > maxKeyBytes {
		return q, fail("KeyTooLongError", "Your key is %d bytes, at most %d are allowed", len(key), maxKeyBytes)
	}
	if query.Get("X-Amz-Signature") != "" && query.Get("X-Amz-Expires") == "" {
		return q, fail("AuthorizationQueryParametersError", "X-Amz-Expires is missing from the presigned request")
	}
	// Presigners put x-amz-* headers into the query, where they are signed
	// as well and mean the same.
	for name, values := range query {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if !strings.HasPrefix(canonical, "X-Amz-") {
			continue
		}
		if !signingParameters[canonical] && r.Header.Get(canonical) == "" {
			r.Header[canonical] = values
		}
		delete(query, name)
	}
	return q, q.findSub()
}

// frontSubs are the sub-resources that the front answers, or refuses by name.
var frontSubs = map[string]bool{
	"accelerate": true, "acl": true, "analytics": true, "cors": true, "encryption": true, "intelligent-tiering": true,
	"inventory": true, "legal-hold": true, "lifecycle": true, "logging": true, "metadataTable": true, "metrics": true,
	"notification": true, "object-lock": true, "ownershipControls": true, "policy": true, "policyStatus": true,
	"publicAccessBlock": true, "replication": true, "requestPayment": true, "restore": true, "retention": true,
	"select": true, "tagging": true, "torrent": true, "website": true, "location": true, "versioning": true, "versions": true,
}

// ownSubs are the sub-resources answered here.
var ownSubs = map[string]bool{"attributes": true, "delete": true, "uploadId": true, "uploads": true}

// modifiers are parameters that do not change which operation is meant.
var modifiers = map[string]bool{
	"x-id": true, "partNumber": true, "versionId": true, "response-cache-control": true, "response-content-disposition": true,
	"response-content-encoding": true, "response-content-language": true, "response-content-type": true, "response-expires": true,
	"list-type": true, "prefix": true, "delimiter": true, "marker": true, "start-after": true, "continuation-token": true,
	"max-keys": true, "encoding-type": true, "fetch-owner": true, "key-marker": true, "upload-id-marker": true,
	"version-id-marker": true, "max-uploads": true, "max-parts": true, "part-number-marker": true, "max-buckets": true, "id": true,
}

// findSub refuses what it does not know: an unknown parameter may be an
// operation, and taking its body for an object's would destroy the object.
func (q *request) findSub() error {
	for name := range q.query {
		switch {
		case frontSubs[name], ownSubs[name]:
			if q.sub != "" {
				return fail("InvalidArgument", "the query names two sub-resources, %q and %q", q.sub, name)
			}
			q.sub = name
		case !modifiers[name]:
			return fail("NotImplemented", "the query parameter %q is not supported", name)
		}
	}
	if v := q.query.Get("versionId"); v != "" && v != "null" {
		return fail("NotImplemented", "versionId %q: this store keeps no versions", v)
	}
	return nil
}

// route finds the operation. Which header makes a PUT a copy is S3's rule.
func (h *handler) route(w http.ResponseWriter, r *http.Request) error {
	q, err := h.parse(r)
	if err != nil {
		return err
	}
	if frontSubs[q.sub] {
		h.front.ServeHTTP(w, r)
		return nil
	}
	copying := r.Header.Get("X-Amz-Copy-Source") != ""
	object := q.key != nil
	switch {
	case !object && q.sub == "delete" && r.Method == http.MethodPost:
		return h.deleteMany(w, q)
	case !object && q.sub == "uploads" && r.Method == http.MethodGet:
		return h.listUploads(w, q)
	case !object && q.sub == "":
		switch r.Method {
		case http.MethodPut:
			return h.createBucket(w, q)
		case http.MethodGet, http.MethodHead, http.MethodDelete:
			h.front.ServeHTTP(w, r)
			return nil
		}
		return fail("NotImplemented", "%s on a bucket is not supported", r.Method)
	case object && q.sub == "uploads" && r.Method == http.MethodPost:
		return h.createUpload(w, q)
	case object && q.sub == "attributes" && r.Method == http.MethodGet:
		return h.attributes(w, q)
	case object && q.sub == "uploadId":
		switch {
		case r.Method == http.MethodPut && copying:
			return h.copyPart(w, q)
		case r.Method == http.MethodPut:
			return h.putPart(w, q)
		case r.Method == http.MethodPost:
			return h.completeUpload(w, q)
		case r.Method == http.MethodDelete:
			return h.abortUpload(w, q)
		case r.Method == http.MethodGet:
			return h.listParts(w, q)
		}
	case object && q.sub == "":
		switch {
		case r.Method == http.MethodGet, r.Method == http.MethodHead:
			return h.get(w, q)
		case r.Method == http.MethodPut && q.query.Has("partNumber"):
			return fail("InvalidArgument", "partNumber needs uploadId")
		case r.Method == http.MethodPut && copying:
			return h.copyObject(w, q)
		case r.Method == http.MethodPut:
			return h.put(w, q)
		case r.Method == http.MethodDelete:
			return h.delete(w, q)
		}
	}
	return fail("MethodNotAllowed", "%s is not allowed here", r.Method)
}

// createBucket answers as S3 does outside of us-east-1: a bucket that exists is
// a conflict, by the code that clients take for "it is mine already". The
// front has no status for that code.
func (h *handler) createBucket(w http.ResponseWriter, q request) error {
	if strings.EqualFold(q.Header.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
		return fail("NotImplemented", "object lock is not supported")
	}
	p, err := openPayload(q.Request, maxXMLBytes, newSigner(q.Request, h.s.opts.SecretKey))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, p); err != nil {
		return err
	}
	err = h.s.CreateBucket(q.Context(), q.bucket)
	if errors.Is(err, ErrBucketExists) {
		return fail("BucketAlreadyOwnedByYou", "The bucket %q exists already", q.bucket)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/"+q.bucket)
	w.WriteHeader(http.StatusOK)
	return nil
}

// refuseEncryption answers requests for encryption with customer keys, which
// must never be stored in the clear instead.
func refuseEncryption(r *http.Request) error {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") || strings.HasPrefix(name, "X-Amz-Copy-Source-Server-Side-Encryption-Customer-") {
			return fail("NotImplemented", "encryption with customer keys (%s) is not supported", name)
		}
	}
	if v := r.Header.Get("X-Amz-Server-Side-Encryption"); v != "" {
		return fail("NotImplemented", "x-amz-server-side-encryption: %s is not supported", v)
	}
	return nil
}
