package objectstore

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	xml "github.com/minio/xxml"
	"github.com/rclone/gofakes3"
)

func quoted(etag string) string { return `"` + etag + `"` }

// put stores the body of the request as an object.
func (h *handler) put(w http.ResponseWriter, q request) error {
	if err := refuseEncryption(q.Request); err != nil {
		return err
	}
	if _, err := h.s.bucketID(q.Context(), q.bucket); err != nil {
		return err
	}
	meta, err := headOf(q.Header)
	if err != nil {
		return err
	}
	p, err := openPayload(q.Request, maxPutSize, newSigner(q.Request, h.s.opts.SecretKey))
	if err != nil {
		return err
	}
	b, err := h.s.spool(p, h.inlineFor(p.left))
	if err != nil {
		return err
	}
	meta.Checksum = p.checksum
	if _, err := h.s.put(q.Context(), q.bucket, q.key, meta, b, writeConditions(q.Header, "")); err != nil {
		return err
	}
	for name, value := range p.checksum {
		w.Header().Set(name, value)
	}
	w.Header().Set("ETag", quoted(b.etag()))
	w.WriteHeader(http.StatusOK)
	return nil
}

// inlineFor spares a body that is known to be large the way through memory.
func (h *handler) inlineFor(length int64) int {
	if length > int64(h.s.opts.InlineBytes) {
		return -1
	}
	return h.s.opts.InlineBytes
}

var overrides = map[string]string{
	"response-cache-control":       "Cache-Control",
	"response-content-disposition": "Content-Disposition",
	"response-content-encoding":    "Content-Encoding",
	"response-content-language":    "Content-Language",
	"response-content-type":        "Content-Type",
	"response-expires":             "Expires",
}

// get answers GET and HEAD from one snapshot of the object.
func (h *handler) get(w http.ResponseWriter, q request) error {
	var c *content
	if q.Method == http.MethodHead && !q.query.Has("partNumber") {
		o, err := h.s.stat(q.Context(), q.bucket, q.key)
		if err != nil {
			return err
		}
		c = &content{object: *o, s: h.s}
	} else {
		var err error
		if c, err = h.s.open(q.Context(), q.bucket, q.key); err != nil {
			return err
		}
		defer c.close()
	}
	meta, err := decodeHead(c.head)
	if err != nil {
		return err
	}
	out := w.Header()
	out.Set("ETag", quoted(c.etag))
	out.Set("Last-Modified", c.modified.Format(http.TimeFormat))
	if err := readConditions(q.Header).forRead(&c.object); err != nil {
		return err
	}
	offset, length, partial, err := h.window(w, q, c)
	if err != nil {
		return err
	}
	out.Set("Accept-Ranges", "bytes")
	out.Set("Content-Type", "binary/octet-stream")
	for name, value := range meta.Headers {
		if strings.HasPrefix(name, metaPrefix) {
			// Clients show the names as they come, so they come as on S3.
			out[strings.ToLower(name)] = []string{string(value)}
		} else {
			out.Set(name, string(value))
		}
	}
	if meta.Tags != "" {
		out.Set("X-Amz-Tagging-Count", strconv.Itoa(strings.Count(meta.Tags, "&")+1))
	}
	if strings.EqualFold(q.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") && (!partial || q.query.Has("partNumber") && length == c.size) {
		for name, value := range meta.Checksum {
			out.Set(name, value)
			out.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		}
	}
	for parameter, name := range overrides {
		if v := q.query.Get(parameter); v != "" {
			out.Set(name, v)
		}
	}
	out.Set("Content-Length", strconv.FormatInt(length, 10))
	status := http.StatusOK
	if partial {
		out.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, c.size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if q.Method == http.MethodHead {
		return nil
	}
	if err := c.writeTo(w, offset, length); err != nil {
		if q.Context().Err() == nil {
			h.s.log.Warn("object could not be sent whole", "bucket", q.bucket, "key", string(q.key), "err", err)
		}
		// The headers are out; only a cut connection can tell the client.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// window finds which bytes are asked for, by partNumber or by Range.
func (h *handler) window(w http.ResponseWriter, q request, c *content) (offset, length int64, partial bool, err error) {
	ranges := q.Header.Get("Range")
	if v := q.query.Get("partNumber"); v != "" {
		if ranges != "" {
			return 0, 0, false, fail("InvalidRequest", "Range and partNumber cannot both be given")
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxParts {
			return 0, 0, false, fail("InvalidArgument", "partNumber %q is not between 1 and %d", v, maxParts)
		}
		sizes := c.partSizes()
		if sizes == nil && n == 1 {
			return 0, c.size, c.size > 0, nil
		}
		if n > len(sizes) {
			return 0, 0, false, fail("InvalidPartNumber", "The object has %d parts, part %d was asked for", max(1, len(sizes)), n)
		}
		for _, size := range sizes[:n-1] {
			offset += size
		}
		w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(sizes)))
		return offset, sizes[n-1], sizes[n-1] > 0, nil
	}
	if v := q.Header.Get("If-Range"); v != "" && !etagIn(v, c.etag) && v != c.modified.Format(http.TimeFormat) {
		ranges = ""
	}
	offset, length, partial, ok := parseRange(ranges, c.size)
	if !ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		return 0, 0, false, fail("InvalidRange", "The range %q lies outside the object of %d bytes", ranges, c.size)
	}
	return offset, length, partial, nil
}

// parseRange reads one byte range of RFC 9110 section 14.1.2. What is not a
// single well-formed range is ignored, as the RFC allows and S3 does. ok is
// false for a range that no byte satisfies.
func parseRange(value string, size int64) (offset, length int64, partial, ok bool) {
	spec, isBytes := strings.CutPrefix(value, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !isBytes || !dash || strings.ContainsAny(spec, ",+") {
		return 0, size, false, true
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, size, false, true
		}
		if n == 0 || size == 0 {
			return 0, 0, false, false
		}
		n = min(n, size)
		return size - n, n, true, true
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, size, false, true
	}
	to := size - 1
	if last != "" {
		if to, err = strconv.ParseInt(last, 10, 64); err != nil || to < from {
			return 0, size, false, true
		}
		to = min(to, size-1)
	}
	if from >= size {
		return 0, 0, false, false
	}
	return from, to - from + 1, true, true
}

func (h *handler) delete(w http.ResponseWriter, q request) error {
	cond, err := deleteConditions(q.Header.Get("If-Match"), q.Header.Get("X-Amz-If-Match-Last-Modified-Time"), q.Header.Get("X-Amz-If-Match-Size"))
	if err != nil {
		return err
	}
	err = h.s.commits.do(q.Context(), func(t *txn) error { return t.delete(q.bucket, q.key, cond) })
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Bounds of a batch delete.
const (
	maxDeletes  = 1000
	maxXMLBytes = 4 << 20
)

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Object  []struct {
		Key              string
		VersionID        string `xml:"VersionId"`
		ETag             string
		LastModifiedTime string
		Size             string
	}
}

type deletedKey struct{ Key string }

type deleteFault struct{ Key, Code, Message string }

type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedKey
	Error   []deleteFault
}

// deleteMany deletes the keys of a list in one transaction and answers each by
// itself: a key whose condition fails leaves the others alone.
func (h *handler) deleteMany(w http.ResponseWriter, q request) error {
	var in deleteRequest
	if err := h.readXML(q, &in); err != nil {
		return err
	}
	if len(in.Object) == 0 || len(in.Object) > maxDeletes {
		return fail("MalformedXML", "the list has %d keys, 1 to %d are allowed", len(in.Object), maxDeletes)
	}
	var out deleteResult
	err := h.s.commits.do(q.Context(), func(t *txn) error {
		if _, err := t.bucket(q.bucket); err != nil {
			return err
		}
		for _, o := range in.Object {
			err := deleteOne(t, q.bucket, o.Key, o.VersionID, o.ETag, o.LastModifiedTime, o.Size)
			if e, ok := errors.AsType[*apiError](err); ok {
				out.Error = append(out.Error, deleteFault{o.Key, e.code, e.message})
				continue
			}
			if err != nil {
				return err
			}
			if !in.Quiet {
				out.Deleted = append(out.Deleted, deletedKey{o.Key})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	writeXML(w, http.StatusOK, out)
	return nil
}

// deleteOne refuses, if it does, before it has written anything.
func deleteOne(t *txn, bucket, key, version, etag, modified, size string) error {
	if key == "" || len(key) > maxKeyBytes {
		return fail("InvalidArgument", "a key has 1 to %d bytes", maxKeyBytes)
	}
	if version != "" && version != "null" {
		return fail("NoSuchVersion", "this store keeps no versions")
	}
	cond, err := deleteConditions(etag, modified, size)
	if err != nil {
		return err
	}
	return t.delete(bucket, []byte(key), cond)
}

// copyObject makes an object of another one.
func (h *handler) copyObject(w http.ResponseWriter, q request) error {
	if err := refuseEncryption(q.Request); err != nil {
		return err
	}
	src, err := parseSource(q.Header.Get("X-Amz-Copy-Source"), sourceConditions(q.Header))
	if err != nil {
		return err
	}
	fresh, err := headOf(q.Header)
	if err != nil {
		return err
	}
	replaceMeta, err := directive(q.Request, "X-Amz-Metadata-Directive")
	if err != nil {
		return err
	}
	replaceTags, err := directive(q.Request, "X-Amz-Tagging-Directive")
	if err != nil {
		return err
	}
	if src.bucket == q.bucket && string(src.key) == string(q.key) && !replaceMeta && !replaceTags {
		return fail("InvalidRequest", "This copy would copy an object to itself without changing its metadata or tags")
	}
	o, err := h.s.copyObject(q.Context(), src, q.bucket, q.key, writeConditions(q.Header, ""), func(old head) (head, error) {
		made := old
		if replaceMeta {
			made.Headers = fresh.Headers
		} else {
			// The redirect is the copy's own, or there is none.
			const redirect = "X-Amz-Website-Redirect-Location"
			made.Headers = maps.Clone(old.Headers)
			delete(made.Headers, redirect)
			if location, given := fresh.Headers[redirect]; given {
				made.Headers[redirect] = location
			}
		}
		if replaceTags {
			made.Tags = fresh.Tags
		}
		return made, nil
	})
	if err != nil {
		return err
	}
	writeXML(w, http.StatusOK, struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		ETag         string
		LastModified gofakes3.ContentTime
	}{ETag: quoted(o.etag), LastModified: gofakes3.NewContentTime(o.modified)})
	return nil
}

// directive reports whether a copy replaces what the directive is about.
func directive(r *http.Request, name string) (replace bool, err error) {
	switch v := r.Header.Get(name); v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	default:
		return false, fail("InvalidArgument", "%s: %q is neither COPY nor REPLACE", name, v)
	}
}
