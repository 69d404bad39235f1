package s3api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
)

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func taggingOf(rq *request, tags []object.Tag) *guarded.Tagging {
	return &guarded.Tagging{Op: rq.side, Ref: rq.ref(), Tags: tags}
}

// putObject writes an object of a scope.
func putObject(rq *request) error {
	p := &guarded.Put{Op: rq.side, Ref: rq.ref()}
	var err error
	if p.Attributes, p.Store, err = rq.attributes(); err != nil {
		return err
	}
	if p.Conditions, err = rq.writeConditions(); err != nil {
		return err
	}
	b, err := rq.openContent()
	if err != nil {
		return err
	}
	p.Body, p.Size = meter{b, rq}, b.Length()
	if p.Checksums = clientSums(b); p.Checksums != nil {
		p.ChecksumType = "FULL_OBJECT"
	}
	p.Verified = trailerSums(b)
	info, err := rq.writer().Put(rq.ctx, p)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	h["Etag"] = []string{`"` + info.ETag + `"`}
	sumHeaders(h, info.Checksums, info.ChecksumType)
	return rq.empty()
}

// sumHeaders tells an object's checksums.
func sumHeaders(h http.Header, sums map[string]string, kind string) {
	if len(sums) == 0 {
		return
	}
	for a, v := range sums {
		h.Set("x-amz-checksum-"+strings.ToLower(a), v)
	}
	if kind != "" {
		h["X-Amz-Checksum-Type"] = []string{kind}
	}
}

func deleteObject(rq *request) error {
	c, err := rq.deleteConditions()
	if err != nil {
		return err
	}
	d := &guarded.Delete{Op: rq.side, Items: []guarded.DeleteItem{{Ref: rq.ref(), Conditions: c}}}
	errs := rq.writer().Delete(rq.ctx, d)
	if len(errs) != 1 {
		return fmt.Errorf("%d answers to the delete of one object", len(errs))
	}
	if errs[0] != nil {
		return errs[0]
	}
	return rq.noContent()
}

// getObject reads an object of a scope.
func getObject(rq *request) error {
	cond := rq.readConditions()
	var rng *guarded.Range
	info, body, err := rq.s.reader.Get(rq.ctx, rq.side, rq.ref(), func(info object.Info) (*guarded.Range, error) {
		if err := cond.CheckRead(&info); err != nil {
			return nil, rq.withEntity(err, &info)
		}
		var err error
		rng, err = rq.chooseRange(&info)
		return rng, err
	})
	if err != nil {
		return err
	}
	defer body.Close()
	status, err := rq.objectHeaders(&info, rng)
	if err != nil {
		return err
	}
	rq.status(status)
	return rq.stream(body)
}

func headObject(rq *request) error {
	cond := rq.readConditions()
	info, err := rq.s.reader.Stat(rq.ctx, rq.side, rq.ref())
	if err != nil {
		return err
	}
	if err := cond.CheckRead(&info); err != nil {
		return rq.withEntity(err, &info)
	}
	rng, err := rq.chooseRange(&info)
	if err != nil {
		return err
	}
	status, err := rq.objectHeaders(&info, rng)
	if err != nil {
		return err
	}
	rq.status(status)
	return nil
}

// withEntity adds to a 304 what it has to say (RFC 9110, section 15.4.5).
func (rq *request) withEntity(err error, info *object.Info) error {
	if !errors.Is(err, object.ErrNotModified) {
		return err
	}
	h := http.Header{
		"Etag":          {`"` + info.ETag + `"`},
		"Last-Modified": {info.Modified.UTC().Format(http.TimeFormat)},
	}
	for _, name := range [...]string{"Cache-Control", "Expires"} {
		if v := info.Headers[name]; v != "" {
			h[name] = []string{v}
		}
	}
	return &apiError{status: http.StatusNotModified, code: "NotModified", cause: err, header: h}
}

// chooseRange picks what a GET or HEAD answers; nil is the whole object.
func (rq *request) chooseRange(info *object.Info) (*guarded.Range, error) {
	h := rq.r.Header
	if v := rq.param("partNumber"); v != "" {
		n, err := strconv.Atoi(v)
		switch {
		case err != nil || n < 1 || n > maxPart:
			return nil, invalid("partNumber is %q; it must be from 1 to %d", shorten(v), maxPart)
		case len(h["Range"]) > 0:
			return nil, fail(http.StatusBadRequest, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
		case info.Parts > 1:
			return nil, notImplemented("reading by partNumber an object of several parts is not available in a guarded scope; use Range")
		case n > 1:
			return nil, rq.noRange(info)
		}
		return nil, nil
	}
	r := h["Range"]
	if len(r) != 1 || !rq.ifRange(info) {
		return nil, nil
	}
	rng, ok := parseRange(r[0], info.Size)
	if !ok {
		return nil, rq.noRange(info)
	}
	return rng, nil
}

// noRange is the 416 that says how long the object is.
func (rq *request) noRange(info *object.Info) error {
	size := strconv.FormatInt(info.Size, 10)
	return &apiError{status: http.StatusRequestedRangeNotSatisfiable, code: "InvalidRange", message: "The requested range is not satisfiable.",
		fields: []string{"ActualObjectSize", size}, header: http.Header{"Content-Range": {"bytes */" + size}}, cause: object.ErrInvalidRange}
}

// ifRange reports whether the range counts: an If-Range that does not name this
// very object asks for the whole (RFC 9110, section 13.1.5).
func (rq *request) ifRange(info *object.Info) bool {
	v := first(rq.r.Header["If-Range"])
	if v == "" {
		return true
	}
	if t, err := http.ParseTime(v); err == nil {
		return info.Modified.Truncate(time.Second).Equal(t)
	}
	return v == `"`+info.ETag+`"`
}

// parseRange reads a Range header against a size. What is malformed, or several
// ranges, stands for the whole (nil, true), as RFC 9110, section 14.2 allows;
// false is a range outside of the object.
func parseRange(s string, size int64) (*guarded.Range, bool) {
	spec, ok := strings.CutPrefix(s, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return nil, true
	}
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return nil, true
	}
	if from == "" {
		n, err := parseSize(to)
		switch {
		case err != nil:
			return nil, true
		case n == 0:
			return nil, false
		case size == 0:
			// Satisfiable, and all there is (RFC 9110, section 14.1.2); no
			// Content-Range can say so.
			return nil, true
		}
		n = min(n, size)
		return &guarded.Range{Offset: size - n, Length: n}, true
	}
	a, err := parseSize(from)
	if err != nil {
		return nil, true
	}
	b := size - 1
	if to != "" {
		if b, err = parseSize(to); err != nil || b < a {
			return nil, true
		}
		b = min(b, size-1)
	}
	if a >= size {
		return nil, false
	}
	return &guarded.Range{Offset: a, Length: b - a + 1}, true
}

// overrides are the parameters that replace headers of an answer.
var overrides = []struct{ param, header string }{
	{"response-content-type", "Content-Type"},
	{"response-content-language", "Content-Language"},
	{"response-expires", "Expires"},
	{"response-cache-control", "Cache-Control"},
	{"response-content-disposition", "Content-Disposition"},
	{"response-content-encoding", "Content-Encoding"},
}

// objectHeaders writes what GET and HEAD say of an object.
func (rq *request) objectHeaders(info *object.Info, rng *guarded.Range) (status int, err error) {
	h := rq.w.Header()
	h["Content-Type"] = []string{"binary/octet-stream"}
	for name, v := range info.Headers {
		h[name] = []string{v}
	}
	for name, v := range info.Meta {
		h[metaName(metaPrefix+name)] = []string{v}
	}
	h["Etag"] = []string{`"` + info.ETag + `"`}
	h["Last-Modified"] = []string{info.Modified.UTC().Format(http.TimeFormat)}
	h["Accept-Ranges"] = acceptRanges
	if len(info.Tags) > 0 {
		h["X-Amz-Tagging-Count"] = []string{strconv.Itoa(len(info.Tags))}
	}
	if rng == nil && strings.EqualFold(first(rq.r.Header["X-Amz-Checksum-Mode"]), "ENABLED") {
		sumHeaders(h, info.Checksums, info.ChecksumType)
	}
	for _, p := range rq.signed.Params {
		if !strings.HasPrefix(p.Name, "response-") {
			continue
		}
		for _, o := range overrides {
			if o.param != p.Name {
				continue
			}
			if strings.ContainsFunc(p.Value, notInValue) {
				return 0, invalid("%s holds a control character, which no header can", p.Name)
			}
			h[o.header] = []string{p.Value}
		}
	}
	rq.fencedHeaders()
	size, status := info.Size, http.StatusOK
	switch {
	case rng != nil:
		size, status = rng.Length, http.StatusPartialContent
		h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", rng.Offset, rng.Offset+rng.Length-1, info.Size)}
	case rq.has("partNumber"):
		status = http.StatusPartialContent
		if info.Size > 0 {
			h["Content-Range"] = []string{fmt.Sprintf("bytes 0-%d/%d", info.Size-1, info.Size)}
		}
		if info.Parts > 0 {
			h["X-Amz-Mp-Parts-Count"] = []string{strconv.Itoa(info.Parts)}
		}
	}
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	return status, nil
}

var acceptRanges = []string{"bytes"}
