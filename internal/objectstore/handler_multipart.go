package objectstore

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	xml "github.com/minio/xxml"
	"github.com/rclone/gofakes3"
)

// readXML reads and verifies a request's XML body.
func (h *handler) readXML(q request, into any) error {
	p, err := openPayload(q.Request, maxXMLBytes, newSigner(q.Request, h.s.opts.SecretKey))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(p)
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(text, into); err != nil {
		return fail("MalformedXML", "The XML in the body cannot be read: %v", err)
	}
	return nil
}

func (q request) upload() upload {
	return upload{bucket: q.bucket, key: q.key, id: q.query.Get("uploadId")}
}

func (h *handler) createUpload(w http.ResponseWriter, q request) error {
	if err := refuseEncryption(q.Request); err != nil {
		return err
	}
	meta, err := headOf(q.Header)
	if err != nil {
		return err
	}
	id, err := h.s.createUpload(q.Context(), q.bucket, q.key, meta)
	if err != nil {
		return err
	}
	writeXML(w, http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Bucket: q.bucket, Key: string(q.key), UploadID: id})
	return nil
}

func (q request) partNumber() (int, error) {
	v := q.query.Get("partNumber")
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxParts {
		return 0, fail("InvalidArgument", "partNumber %q is not between 1 and %d", v, maxParts)
	}
	return n, nil
}

func (h *handler) putPart(w http.ResponseWriter, q request) error {
	number, err := q.partNumber()
	if err != nil {
		return err
	}
	if err := refuseEncryption(q.Request); err != nil {
		return err
	}
	if err := h.s.checkUpload(q.Context(), q.upload()); err != nil {
		return err
	}
	p, err := openPayload(q.Request, maxPutSize, newSigner(q.Request, h.s.opts.SecretKey))
	if err != nil {
		return err
	}
	b, err := h.s.spool(p, -1)
	if err != nil {
		return err
	}
	if _, err := h.s.putPart(q.Context(), q.upload(), number, b); err != nil {
		return err
	}
	for name, value := range p.checksum {
		w.Header().Set(name, value)
	}
	w.Header().Set("ETag", quoted(b.etag()))
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *handler) copyPart(w http.ResponseWriter, q request) error {
	number, err := q.partNumber()
	if err != nil {
		return err
	}
	if err := refuseEncryption(q.Request); err != nil {
		return err
	}
	src, err := parseSource(q.Header.Get("X-Amz-Copy-Source"), sourceConditions(q.Header))
	if err != nil {
		return err
	}
	var offset, length int64 = 0, -1
	if v := q.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		spec, ok := strings.CutPrefix(v, "bytes=")
		first, last, dash := strings.Cut(spec, "-")
		from, err1 := strconv.ParseInt(first, 10, 64)
		to, err2 := strconv.ParseInt(last, 10, 64)
		if !ok || !dash || err1 != nil || err2 != nil || from < 0 || to < from {
			return fail("InvalidArgument", "x-amz-copy-source-range %q is not bytes=first-last", v)
		}
		offset, length = from, to-from+1
	}
	if err := h.s.checkUpload(q.Context(), q.upload()); err != nil {
		return err
	}
	etag, modified, err := h.s.copyPart(q.Context(), src, q.upload(), number, offset, length)
	if err != nil {
		return err
	}
	writeXML(w, http.StatusOK, struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
		ETag         string
		LastModified gofakes3.ContentTime
	}{ETag: quoted(etag), LastModified: gofakes3.NewContentTime(modified)})
	return nil
}

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Part    []struct {
		PartNumber int
		ETag       string
	}
}

func (h *handler) completeUpload(w http.ResponseWriter, q request) error {
	// The x-amz-checksum-* headers of this request speak of the object, not
	// of its body, and the parts have been checked against their own.
	for name := range q.Header {
		if strings.HasPrefix(name, checksumPrefix) {
			delete(q.Header, name)
		}
	}
	var in completeRequest
	if err := h.readXML(q, &in); err != nil {
		return err
	}
	if len(in.Part) == 0 || len(in.Part) > maxParts {
		return fail("MalformedXML", "the list has %d parts, 1 to %d are allowed", len(in.Part), maxParts)
	}
	list := make([]wanted, len(in.Part))
	for i, p := range in.Part {
		if i > 0 && p.PartNumber <= in.Part[i-1].PartNumber {
			return fail("InvalidPartOrder", "Part %d is listed behind part %d", p.PartNumber, in.Part[i-1].PartNumber)
		}
		list[i] = wanted{p.PartNumber, strings.ToLower(strings.Trim(p.ETag, `" `))}
	}
	var size *int64
	if v := q.Header.Get("X-Amz-Mp-Object-Size"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fail("InvalidArgument", "x-amz-mp-object-size %q is not a number of bytes", v)
		}
		size = &n
	}
	etag, err := h.s.complete(q.Context(), q.upload(), list, size, writeConditions(q.Header, ""))
	if err != nil {
		return err
	}
	writeXML(w, http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location string
		Bucket   string
		Key      string
		ETag     string
	}{Location: q.URL.EscapedPath(), Bucket: q.bucket, Key: string(q.key), ETag: quoted(etag)})
	return nil
}

func (h *handler) abortUpload(w http.ResponseWriter, q request) error {
	if err := h.s.abort(q.Context(), q.upload()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// limitOf reads a page size: S3 caps it at 1000 and refuses what is negative.
func (q request) limitOf(name string) (int, error) {
	v := q.query.Get(name)
	if v == "" {
		return 1000, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, fail("InvalidArgument", "%s %q is not a number of 0 or more", name, v)
	}
	return min(n, 1000), nil
}

type listedPart struct {
	PartNumber   int
	LastModified gofakes3.ContentTime
	ETag         string
	Size         int64
}

func (h *handler) listParts(w http.ResponseWriter, q request) error {
	limit, err := q.limitOf("max-parts")
	if err != nil {
		return err
	}
	marker, err := strconv.Atoi("0" + q.query.Get("part-number-marker"))
	if err != nil {
		return fail("InvalidArgument", "part-number-marker %q is not a number of 0 or more", q.query.Get("part-number-marker"))
	}
	parts, more, err := h.s.listParts(q.Context(), q.upload(), marker, limit)
	if err != nil {
		return err
	}
	encode, encoding, err := q.encoding()
	if err != nil {
		return err
	}
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket               string
		Key                  string
		UploadID             string `xml:"UploadId"`
		EncodingType         string `xml:",omitempty"`
		PartNumberMarker     int
		NextPartNumberMarker int
		MaxParts             int
		IsTruncated          bool
		Part                 []listedPart
		StorageClass         string
	}{Bucket: q.bucket, Key: encode(string(q.key)), UploadID: q.upload().id, EncodingType: encoding,
		PartNumberMarker: marker, NextPartNumberMarker: marker, MaxParts: limit, IsTruncated: more, StorageClass: "STANDARD"}
	for _, p := range parts {
		out.Part = append(out.Part, listedPart{p.number, gofakes3.NewContentTime(p.modified), quoted(p.etag), p.size})
		out.NextPartNumberMarker = p.number
	}
	writeXML(w, http.StatusOK, out)
	return nil
}

// encoding returns how keys are written into XML.
func (q request) encoding() (encode func(string) string, name string, err error) {
	switch v := q.query.Get("encoding-type"); v {
	case "":
		return func(s string) string { return s }, "", nil
	case "url":
		return gofakes3.URLEncode, v, nil
	default:
		return nil, "", fail("InvalidArgument", "encoding-type %q is not url", v)
	}
}

type listedUpload struct {
	Key          string
	UploadID     string `xml:"UploadId"`
	StorageClass string
	Initiated    gofakes3.ContentTime
}

type commonPrefixes struct{ Prefix string }

func (h *handler) listUploads(w http.ResponseWriter, q request) error {
	limit, err := q.limitOf("max-uploads")
	if err != nil {
		return err
	}
	encode, encoding, err := q.encoding()
	if err != nil {
		return err
	}
	get := q.query.Get
	list, more, err := h.s.listUploads(q.Context(), q.bucket, []byte(get("prefix")), []byte(get("delimiter")), []byte(get("key-marker")), get("upload-id-marker"), limit)
	if err != nil {
		return err
	}
	out := struct {
		XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket             string
		KeyMarker          string
		UploadIDMarker     string `xml:"UploadIdMarker"`
		NextKeyMarker      string `xml:",omitempty"`
		NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
		Prefix             string
		Delimiter          string `xml:",omitempty"`
		EncodingType       string `xml:",omitempty"`
		MaxUploads         int
		IsTruncated        bool
		Upload             []listedUpload
		CommonPrefixes     []commonPrefixes
	}{Bucket: q.bucket, KeyMarker: encode(get("key-marker")), UploadIDMarker: get("upload-id-marker"), Prefix: encode(get("prefix")),
		Delimiter: encode(get("delimiter")), EncodingType: encoding, MaxUploads: limit, IsTruncated: more && limit > 0}
	for _, e := range list {
		if e.common {
			out.CommonPrefixes = append(out.CommonPrefixes, commonPrefixes{encode(string(e.key))})
		} else {
			out.Upload = append(out.Upload, listedUpload{encode(string(e.key)), e.upload, "STANDARD", gofakes3.NewContentTime(e.modified)})
		}
		if out.IsTruncated {
			out.NextKeyMarker, out.NextUploadIDMarker = encode(string(e.key)), e.upload
		}
	}
	writeXML(w, http.StatusOK, out)
	return nil
}

type attributePart struct {
	PartNumber int
	Size       int64
}

// attributes answers GetObjectAttributes; the front knows MD5 ETags only.
func (h *handler) attributes(w http.ResponseWriter, q request) error {
	asked := map[string]bool{}
	for name := range strings.SplitSeq(strings.Join(q.Header.Values("X-Amz-Object-Attributes"), ","), ",") {
		asked[strings.TrimSpace(name)] = true
	}
	c, err := h.s.open(q.Context(), q.bucket, q.key)
	if err != nil {
		return err
	}
	defer c.close()
	if err := readConditions(q.Header).forRead(&c.object); err != nil {
		return err
	}
	type objectParts struct {
		PartsCount int
		Part       []attributePart
	}
	var out struct {
		XMLName      xml.Name     `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
		ETag         string       `xml:",omitempty"`
		ObjectParts  *objectParts `xml:",omitempty"`
		StorageClass string       `xml:",omitempty"`
		ObjectSize   *int64       `xml:",omitempty"`
	}
	if asked["ETag"] {
		out.ETag = c.etag
	}
	if asked["StorageClass"] {
		out.StorageClass = "STANDARD"
	}
	if asked["ObjectSize"] {
		out.ObjectSize = &c.size
	}
	if sizes := c.partSizes(); asked["ObjectParts"] && sizes != nil {
		out.ObjectParts = &objectParts{PartsCount: len(sizes)}
		for i, size := range sizes {
			out.ObjectParts.Part = append(out.ObjectParts.Part, attributePart{i + 1, size})
		}
	}
	w.Header().Set("Last-Modified", c.modified.Format(http.TimeFormat))
	writeXML(w, http.StatusOK, out)
	return nil
}
