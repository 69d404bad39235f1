package s3api

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

const (
	metaPrefix = "X-Amz-Meta-"
	// maxMeta bounds names and values of user metadata together, in bytes.
	// Source: Amazon S3 User Guide, "User-defined object metadata".
	maxMeta = 2 << 10
	// Who the client takes a bucket to belong to, and that of a copy's source.
	headerOwner, headerSourceOwner = "X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"
	// Bounds of tags. Source: Amazon S3 User Guide, "Categorizing your storage
	// using tags"; lengths are in characters.
	maxTags, maxTagKey, maxTagValue = 10, 128, 256
)

// storedHeaders are the system headers that belong to an object.
var storedHeaders = map[string]bool{
	"Content-Type": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true,
	"Content-Language": true, "Expires": true, "X-Amz-Website-Redirect-Location": true,
}

// storeHeaders concern the store alone: how it keeps the bytes.
var storeHeaders = []string{
	"X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
	"X-Amz-Server-Side-Encryption-Context", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled",
	"X-Amz-Expected-Bucket-Owner", "X-Amz-Request-Payer",
}

// metaName is a header's name as it is sent to clients. User metadata goes in
// lower case, as S3 sends it: header names have no case, but boto3 makes the keys
// of a case-sensitive dictionary of them.
func metaName(name string) string {
	if strings.HasPrefix(name, metaPrefix) {
		return strings.ToLower(name)
	}
	return name
}

// attributes reads what a write into a scope says of its object. Headers that
// ask for what a scope does not have are refused by name: an object that is
// silently not locked, not private or not encrypted is worse than none.
func (rq *request) attributes() (a object.Attributes, store map[string]string, err error) {
	h := rq.r.Header
	if err := refuseCustomerKeys(h); err != nil {
		return a, nil, err
	}
	if err := refuseGrants(h); err != nil {
		return a, nil, err
	}
	size := 0
	for name, values := range h {
		switch {
		case strings.HasPrefix(name, metaPrefix):
			key := strings.ToLower(name[len(metaPrefix):])
			value := strings.Join(values, ",")
			size += len(key) + len(value)
			if size > maxMeta {
				return a, nil, fail(http.StatusBadRequest, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size of %d bytes.", maxMeta)
			}
			if a.Meta == nil {
				a.Meta = map[string]string{}
			}
			a.Meta[key] = value
		case storedHeaders[name]:
			value := strings.Join(values, ",")
			if name == "Content-Encoding" {
				value = sigv4.ContentEncoding(h)
			}
			if value == "" {
				continue
			}
			if name == object.WebsiteRedirect && !redirects(value) {
				return a, nil, fail(http.StatusBadRequest, "InvalidRedirectLocation", "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.")
			}
			if a.Headers == nil {
				a.Headers = map[string]string{}
			}
			a.Headers[name] = value
		}
	}
	for _, name := range storeHeaders {
		if v := h[name]; len(v) > 0 {
			if store == nil {
				store = map[string]string{}
			}
			store[name] = v[0]
		}
	}
	if class := store["X-Amz-Storage-Class"]; class != object.StandardClass {
		a.Class = class
	}
	if v := h["X-Amz-Tagging"]; len(v) > 0 {
		if a.Tags, err = parseTags(v[0]); err != nil {
			return a, nil, err
		}
	}
	return a, store, nil
}

// redirects reports whether a website redirect leads anywhere. The store that gets it
// with the bytes would refuse it, which is no answer for a client.
// Source: Amazon S3 API Reference, PutObject, x-amz-website-redirect-location.
func redirects(location string) bool {
	return strings.HasPrefix(location, "/") || strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://")
}

// refuseReadKeys refuses a read that brings a key: no object in a scope has one, and
// S3 says so rather than ignoring it.
func refuseReadKeys(h http.Header) error {
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") {
			return fail(http.StatusBadRequest, "InvalidRequest", "The encryption parameters are not applicable to this object.")
		}
	}
	return nil
}

// refuseCustomerKeys refuses the headers that a scope cannot honour.
func refuseCustomerKeys(h http.Header) error {
	for name, values := range h {
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		bad := strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") ||
			strings.HasPrefix(name, "X-Amz-Copy-Source-Server-Side-Encryption-Customer-") ||
			strings.HasPrefix(name, "X-Amz-Object-Lock-")
		if bad {
			return notImplemented("the header %s: %s is not available in a guarded scope", strings.ToLower(name), shorten(values[0]))
		}
	}
	return nil
}

// conditions reads four headers of conditions.
func conditions(h http.Header, match, none, since, unmodified string) (c object.Conditions) {
	c.IfMatch, c.IfNoneMatch = strings.Join(h[match], ","), strings.Join(h[none], ",")
	// An invalid date is ignored (RFC 9110, section 13.1.3).
	c.IfModifiedSince, _ = parseHTTPTime(first(h[since]))
	c.IfUnmodifiedSince, _ = parseHTTPTime(first(h[unmodified]))
	return c
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (rq *request) readConditions() object.Conditions {
	return conditions(rq.r.Header, "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
}

// writeConditions reads the conditions of a write. Dates are refused rather than
// ignored: who sends one counts on it.
func (rq *request) writeConditions() (object.Conditions, error) {
	h := rq.r.Header
	c := object.Conditions{IfMatch: strings.Join(h["If-Match"], ","), IfNoneMatch: strings.Join(h["If-None-Match"], ",")}
	if err := c.CheckWritable(); err != nil {
		return c, notImplemented("%v", err)
	}
	for _, name := range []string{"If-Modified-Since", "If-Unmodified-Since", "X-Amz-If-Match-Initiated-Time"} {
		if len(h[name]) > 0 {
			return c, notImplemented("the header %s on a write is not implemented; use If-Match", name)
		}
	}
	return c, nil
}

// parseTags reads the query form of tags.
func parseTags(s string) ([]object.Tag, error) {
	var tags []object.Tag
	for piece := range strings.SplitSeq(s, "&") {
		if piece == "" {
			continue
		}
		k, v, _ := strings.Cut(piece, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil {
			return nil, invalid("the header x-amz-tagging is not encoded as a query")
		}
		tags = append(tags, object.Tag{Key: key, Value: value})
	}
	return tags, checkTags(tags)
}

func checkTags(tags []object.Tag) error {
	if len(tags) > maxTags {
		return fail(http.StatusBadRequest, "BadRequest", "Object tags cannot be greater than %d.", maxTags)
	}
	for i, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey || !utf8.ValidString(t.Key) || strings.ContainsFunc(t.Key, notInTag):
			return fail(http.StatusBadRequest, "InvalidTag", "The TagKey you have provided is invalid: 1 to %d characters.", maxTagKey)
		case utf8.RuneCountInString(t.Value) > maxTagValue || !utf8.ValidString(t.Value) || strings.ContainsFunc(t.Value, notInTag):
			return fail(http.StatusBadRequest, "InvalidTag", "The TagValue you have provided is invalid: at most %d characters.", maxTagValue)
		case slices.ContainsFunc(tags[:i], func(u object.Tag) bool { return u.Key == t.Key }):
			return fail(http.StatusBadRequest, "InvalidTag", "Cannot provide multiple Tags with the same key.")
		}
	}
	return nil
}

// notInTag are the characters that tags do not have.
// Source: S3 Control API Reference, S3Tag: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$.
func notInTag(r rune) bool {
	return !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r)
}

func encodeTags(tags []object.Tag) string {
	var b strings.Builder
	for i, t := range tags {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(t.Key))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(t.Value))
	}
	return b.String()
}

func getTagging(rq *request) error {
	info, err := rq.s.reader.Stat(rq.ctx, rq.side, rq.ref())
	if err != nil {
		return err
	}
	x := newXML()
	defer x.free()
	x.root("Tagging")
	x.open("TagSet")
	for _, t := range slices.SortedFunc(slices.Values(info.Tags), func(a, b object.Tag) int { return strings.Compare(a.Key, b.Key) }) {
		x.open("Tag")
		x.text("Key", t.Key)
		x.text("Value", t.Value)
		x.close("Tag")
	}
	x.close("TagSet")
	x.close("Tagging")
	return rq.document(x)
}

func putTagging(rq *request) error {
	doc, err := rq.readDocument(maxDocument, sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	rq.bodyIs(doc)
	var in struct {
		XMLName xml.Name     `xml:"Tagging"`
		Tags    []object.Tag `xml:"TagSet>Tag"`
	}
	if err := decode(doc, &in); err != nil {
		return err
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	return rq.setTags(in.Tags, http.StatusOK)
}

func deleteTagging(rq *request) error { return rq.setTags(nil, http.StatusNoContent) }

func (rq *request) setTags(tags []object.Tag, status int) error {
	t := taggingOf(rq, tags)
	if err := rq.writer().SetTags(rq.ctx, t); err != nil {
		return err
	}
	if status == http.StatusNoContent {
		return rq.noContent()
	}
	return rq.empty()
}

// getObjectAttributes answers the attributes that were asked for.
func getObjectAttributes(rq *request) error {
	want := map[string]bool{}
	for _, v := range rq.r.Header["X-Amz-Object-Attributes"] {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.TrimSpace(name)
			if !slices.Contains([]string{"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}, name) {
				return invalid("x-amz-object-attributes: unknown attribute %q", shorten(name))
			}
			want[name] = true
		}
	}
	if len(want) == 0 {
		return invalid("x-amz-object-attributes is missing; name what to answer")
	}
	if err := refuseReadKeys(rq.r.Header); err != nil {
		return err
	}
	after, limit, err := rq.partsPage()
	if err != nil {
		return err
	}
	var info object.Info
	var parts []object.Part
	if want["ObjectParts"] {
		info, parts, err = rq.s.reader.Parts(rq.ctx, rq.side, rq.ref(), 0, maxPart)
	} else {
		info, err = rq.s.reader.Stat(rq.ctx, rq.side, rq.ref())
	}
	if err != nil {
		return err
	}
	if err := rq.readConditions().CheckRead(&info); err != nil {
		return rq.withEntity(err, &info)
	}
	x := newXML()
	defer x.free()
	x.root("GetObjectAttributesResponse")
	if want["ETag"] {
		x.text("ETag", info.ETag)
	}
	if want["Checksum"] && len(info.Checksums) > 0 {
		x.open("Checksum")
		for _, a := range checksumNames {
			// Without the number of parts, which stands beside it.
			sum, _, _ := strings.Cut(info.Checksums[a], "-")
			x.some("Checksum"+a, sum)
		}
		x.some("ChecksumType", info.ChecksumType)
		x.close("Checksum")
	}
	if want["ObjectParts"] && info.Parts > 0 {
		rq.objectParts(x, &info, parts, after, limit)
	}
	if want["StorageClass"] {
		x.text("StorageClass", info.StorageClass())
	}
	if want["ObjectSize"] {
		x.number("ObjectSize", info.Size)
	}
	x.close("GetObjectAttributesResponse")
	rq.w.Header()["Last-Modified"] = []string{info.Modified.UTC().Format(http.TimeFormat)}
	return rq.document(x)
}

// partsPage reads which of an object's parts GetObjectAttributes tells.
func (rq *request) partsPage() (after, limit int, err error) {
	limit = maxKeys
	for _, f := range []struct {
		name string
		to   *int
	}{{"X-Amz-Part-Number-Marker", &after}, {"X-Amz-Max-Parts", &limit}} {
		v := first(rq.r.Header[f.name])
		if v == "" {
			continue
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return 0, 0, invalid("%s is %q; it must be a number", strings.ToLower(f.name), shorten(v))
		}
		*f.to = n
	}
	return after, min(limit, maxKeys), nil
}

// objectParts tells a page of an object's parts, and how many there are where
// nothing more is known.
func (rq *request) objectParts(x *xmlWriter, info *object.Info, parts []object.Part, after, limit int) {
	x.open("ObjectParts")
	defer x.close("ObjectParts")
	x.number("PartsCount", int64(info.Parts))
	if len(parts) == 0 {
		return
	}
	parts = slices.DeleteFunc(parts, func(p object.Part) bool { return p.Number <= after })
	more := len(parts) > limit
	parts = parts[:min(limit, len(parts))]
	x.number("PartNumberMarker", int64(after))
	if len(parts) > 0 {
		x.number("NextPartNumberMarker", int64(parts[len(parts)-1].Number))
	}
	x.number("MaxParts", int64(limit))
	x.flag("IsTruncated", more)
	for _, p := range parts {
		x.open("Part")
		x.number("PartNumber", int64(p.Number))
		x.number("Size", p.Size)
		for a := range info.Checksums {
			x.some("Checksum"+a, p.Checksum)
		}
		x.close("Part")
	}
}

// deleteConditions reads the conditions of one delete.
func (rq *request) deleteConditions() (object.Conditions, error) {
	c, err := rq.writeConditions()
	if err != nil {
		return c, err
	}
	h := rq.r.Header
	if v := first(h["X-Amz-If-Match-Last-Modified-Time"]); v != "" {
		if c.IfLastModified, err = parseTime(v); err != nil {
			return c, invalid("x-amz-if-match-last-modified-time is %q; it must be a time", shorten(v))
		}
	}
	if v := first(h["X-Amz-If-Match-Size"]); v != "" {
		n, err := parseSize(v)
		if err != nil {
			return c, invalid("x-amz-if-match-size is %q; it must be a number of bytes", shorten(v))
		}
		c.IfSize = &n
	}
	return c, nil
}

// parseTime reads the two forms in which S3 clients write a time.
func parseTime(s string) (time.Time, error) {
	if t, err := parseHTTPTime(s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	return said(t, err), err
}

// parseHTTPTime reads the time of a header.
func parseHTTPTime(s string) (time.Time, error) {
	t, err := http.ParseTime(s)
	return said(t, err), err
}

// said keeps the beginning of the year 1, if that was written, from being taken for a
// time that nobody wrote: a second later is as long before every object.
func said(t time.Time, err error) time.Time {
	if err == nil && t.IsZero() {
		return t.Add(time.Second)
	}
	return t
}
