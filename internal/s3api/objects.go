package s3api

import (
	"errors"
	"fmt"
	"log/slog"
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
	p.Body, p.Size, p.ContentMD5 = meter{b, rq}, b.Length(), first(rq.r.Header["Content-Md5"])
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

// errNothing ends the opening of an object of which no byte was asked for.
var errNothing = errors.New("an empty part was asked for")

// getObject reads an object of a scope.
func getObject(rq *request) error {
	if err := refuseReadKeys(rq.r.Header); err != nil {
		return err
	}
	cond := rq.readConditions()
	var chosen slice
	info, body, err := rq.s.reader.Get(rq.ctx, rq.side, rq.ref(), func(info object.Info, part func(int) (object.Part, error)) (*guarded.Range, error) {
		if err := cond.CheckRead(&info); err != nil {
			return nil, rq.withEntity(err, &info)
		}
		var err error
		if chosen, err = rq.choose(&info, part); err == nil && chosen.empty() && info.Size > 0 {
			err = errNothing
		}
		return chosen.rng, err
	})
	if errors.Is(err, errNothing) {
		body, err = http.NoBody, nil
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if chosen.rng == nil && !chosen.empty() {
		body = held(body, &info)
	}
	status, err := rq.objectHeaders(&info, chosen)
	if err != nil {
		return err
	}
	rq.status(status)
	err = rq.stream(body)
	if errors.Is(err, guarded.ErrDamaged) {
		// Nobody hears of it but by a cut connection.
		rq.s.log.LogAttrs(rq.ctx, slog.LevelError, "object damaged in the store or on the way from it", slog.String("request_id", rq.record.RequestID),
			slog.String("object", rq.ref().String()), slog.Any("error", err))
	}
	return err
}

func headObject(rq *request) error {
	if err := refuseReadKeys(rq.r.Header); err != nil {
		return err
	}
	cond := rq.readConditions()
	n, _ := strconv.Atoi(rq.param("partNumber"))
	var info object.Info
	var parts []object.Part
	var err error
	if n > 0 {
		info, parts, err = rq.s.reader.Parts(rq.ctx, rq.side, rq.ref(), n-1, 1)
	} else {
		info, err = rq.s.reader.Stat(rq.ctx, rq.side, rq.ref())
	}
	if err != nil {
		return err
	}
	if err := cond.CheckRead(&info); err != nil {
		return rq.withEntity(err, &info)
	}
	chosen, err := rq.choose(&info, func(int) (object.Part, error) {
		if len(parts) == 0 {
			return object.Part{}, guarded.ErrPartsUnknown
		}
		return parts[0], nil
	})
	if err != nil {
		return err
	}
	status, err := rq.objectHeaders(&info, chosen)
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

// slice is what of an object a GET or HEAD answers: all of it (the zero value), a
// range, or a part, which is a range unless it is empty or the whole.
type slice struct {
	rng  *guarded.Range
	part *object.Part
}

func (s *slice) empty() bool { return s.part != nil && s.part.Size == 0 }

// choose picks what a GET or HEAD answers.
func (rq *request) choose(info *object.Info, find func(n int) (object.Part, error)) (slice, error) {
	h := rq.r.Header
	if rq.has("partNumber") {
		n, err := rq.partNumber()
		switch {
		case err != nil:
			return slice{}, err
		case len(h["Range"]) > 0:
			return slice{}, fail(http.StatusBadRequest, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
		case n > max(info.Parts, 1):
			return slice{}, noPart(info, n)
		case info.Parts == 0:
			return slice{part: &object.Part{Number: 1, Size: info.Size}}, nil
		}
		p, err := find(n)
		if err != nil {
			return slice{}, err
		}
		if p.Size == 0 {
			return slice{part: &p}, nil
		}
		return slice{&guarded.Range{Offset: p.Start, Length: p.Size}, &p}, nil
	}
	r := h["Range"]
	if len(r) != 1 || !rq.ifRange(info) {
		return slice{}, nil
	}
	rng, ok := parseRange(r[0], info.Size)
	if !ok {
		return slice{}, rq.noRange(info)
	}
	return slice{rng: rng}, nil
}

// noPart is the 416 of a part that the object does not have.
func noPart(info *object.Info, n int) error {
	return &apiError{status: http.StatusRequestedRangeNotSatisfiable, code: "InvalidPartNumber", message: "The requested partnumber is not satisfiable.",
		fields: []string{"PartNumberRequested", strconv.Itoa(n), "ActualPartCount", strconv.Itoa(max(info.Parts, 1))}, cause: object.ErrInvalidPartNumber}
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
func (rq *request) objectHeaders(info *object.Info, of slice) (status int, err error) {
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
	if info.Class != "" {
		h["X-Amz-Storage-Class"] = []string{info.Class}
	}
	if len(info.Tags) > 0 {
		h["X-Amz-Tagging-Count"] = []string{strconv.Itoa(len(info.Tags))}
	}
	if strings.EqualFold(first(rq.r.Header["X-Amz-Checksum-Mode"]), "ENABLED") {
		rq.sums(info, of)
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
	if of.part != nil {
		size, status = of.part.Size, http.StatusPartialContent
		if info.Parts > 0 {
			h["X-Amz-Mp-Parts-Count"] = []string{strconv.Itoa(info.Parts)}
		}
		if size > 0 {
			h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", of.part.Start, of.part.Start+size-1, info.Size)}
		}
	} else if rng := of.rng; rng != nil {
		size, status = rng.Length, http.StatusPartialContent
		h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", rng.Offset, rng.Offset+rng.Length-1, info.Size)}
	}
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	return status, nil
}

// sums tells the checksums of what is answered, where they are known: those of the
// object with all of it, that of a part with the part.
func (rq *request) sums(info *object.Info, of slice) {
	h := rq.w.Header()
	switch {
	case of.part != nil && info.Parts > 0:
		for algorithm := range info.Checksums {
			if of.part.Checksum != "" {
				sumHeaders(h, map[string]string{algorithm: of.part.Checksum}, info.ChecksumType)
			}
		}
	case of.rng == nil:
		sumHeaders(h, info.Checksums, info.ChecksumType)
	}
}

var acceptRanges = []string{"bytes"}
