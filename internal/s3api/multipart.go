package s3api

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// maxPart is the highest part number, and so the number of parts.
const maxPart = 10000

// upload is the upload that the request names.
func (rq *request) upload() guarded.UploadRef {
	return guarded.UploadRef{Op: rq.side, Ref: rq.ref(), ID: rq.param("uploadId")}
}

func (rq *request) partNumber() (int, error) {
	v := rq.param("partNumber")
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxPart {
		return 0, invalid("partNumber is %q; part numbers are from 1 to %d", shorten(v), maxPart)
	}
	return n, nil
}

func createUpload(rq *request) error {
	c := &guarded.CreateUpload{Op: rq.side, Ref: rq.ref()}
	var err error
	if c.Attributes, c.Store, err = rq.attributes(); err != nil {
		return err
	}
	if c.Algorithm, c.ChecksumType, err = uploadChecksum(rq.r.Header); err != nil {
		return err
	}
	id, err := rq.writer().CreateUpload(rq.ctx, c)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	if c.Algorithm != "" {
		h["X-Amz-Checksum-Algorithm"] = []string{c.Algorithm}
		h["X-Amz-Checksum-Type"] = []string{c.ChecksumType}
	}
	x := newXML()
	defer x.free()
	x.root("InitiateMultipartUploadResult")
	x.text("Bucket", rq.bucket)
	x.text("Key", rq.key)
	x.text("UploadId", id)
	x.close("InitiateMultipartUploadResult")
	return rq.document(x)
}

// uploadChecksum reads which checksum an upload's object shall have. Source: Amazon
// S3 API Reference, CreateMultipartUpload.
func uploadChecksum(h http.Header) (algorithm, kind string, err error) {
	algorithm, kind = strings.ToUpper(first(h["X-Amz-Checksum-Algorithm"])), strings.ToUpper(first(h["X-Amz-Checksum-Type"]))
	if err := keeps(algorithm); err != nil {
		return "", "", err
	}
	switch {
	case kind != "" && kind != checksum.FullObject && kind != checksum.Composite:
		return "", "", invalid("x-amz-checksum-type is %q; it must be FULL_OBJECT or COMPOSITE", shorten(kind))
	case kind != "" && algorithm == "":
		return "", "", fail(http.StatusBadRequest, "InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
	case algorithm == "":
		return "", "", nil
	case kind == "":
		kind = checksum.DefaultType(algorithm)
	}
	if !checksum.Possible(algorithm, kind) {
		return "", "", fail(http.StatusBadRequest, "InvalidRequest", "The %s checksum type cannot be used with the %s checksum algorithm.", kind, strings.ToLower(algorithm))
	}
	return algorithm, kind, nil
}

// keeps refuses a checksum algorithm, in upper case, that objects of a scope do not
// keep; "" is none.
func keeps(algorithm string) error {
	switch {
	case algorithm == "" || checksum.Kept(algorithm):
		return nil
	case slices.Contains(checksumNames, algorithm):
		return notImplemented("the checksum algorithm %s is not kept with objects of a guarded scope; use one of %s", algorithm, checksum.KeptNames())
	}
	return fail(http.StatusBadRequest, "InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [%s]", checksum.KeptNames())
}

func uploadPart(rq *request) error {
	p := &guarded.Part{UploadRef: rq.upload()}
	var err error
	if p.Number, err = rq.partNumber(); err != nil {
		return err
	}
	if err := refuseCustomerKeys(rq.r.Header); err != nil {
		return err
	}
	b, err := rq.openContent()
	if err != nil {
		return err
	}
	p.Body, p.Size, p.Checksums, p.Verified = meter{b, rq}, b.Length(), clientSums(b), trailerSums(b)
	if c, ok := b.Client(); ok {
		p.Algorithm = string(c.Algorithm)
	}
	p.ContentMD5 = first(rq.r.Header["Content-Md5"])
	if p.Size < 0 {
		// Its length is wanted before its bytes; its MD5 then comes with it.
		b.Compute(sigv4.MD5)
		body, err := rq.spool(b, false)
		if err != nil {
			return err
		}
		defer body.Close()
		p.Body, p.Size, p.ContentMD5 = body, body.length, first(rq.r.Header["Content-Md5"])
	}
	info, err := rq.writer().UploadPart(rq.ctx, p)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	h["Etag"] = []string{`"` + info.ETag + `"`}
	sumHeaders(h, info.Checksums, "")
	return rq.empty()
}

// completeXML is the list of parts as the client sends it.
type completeXML struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber        int
		ETag              string
		ChecksumCRC32     string
		ChecksumCRC32C    string
		ChecksumCRC64NVME string
		ChecksumSHA1      string
		ChecksumSHA256    string
	} `xml:"Part"`
}

func completeUpload(rq *request) error {
	c := &guarded.Complete{UploadRef: rq.upload()}
	if err := rq.wholeObject(c); err != nil {
		return err
	}
	var err error
	if c.Conditions, err = rq.writeConditions(); err != nil {
		return err
	}
	doc, err := rq.readDocument(maxComplete, sigv4.BodyOptions{ObjectChecksum: true})
	if err != nil {
		return err
	}
	rq.bodyIs(doc)
	if c.Parts, err = parseParts(doc); err != nil {
		return err
	}
	info, err := rq.writer().Complete(rq.ctx, c)
	if err != nil {
		return err
	}
	x := newXML()
	defer x.free()
	x.root("CompleteMultipartUploadResult")
	x.text("Location", rq.location())
	x.text("Bucket", rq.bucket)
	x.text("Key", rq.key)
	x.etag(info.ETag)
	x.checksums(info.Checksums)
	x.some("ChecksumType", info.ChecksumType)
	x.close("CompleteMultipartUploadResult")
	return rq.document(x)
}

// wholeObject reads what a Complete's headers say of the object: its size, its
// checksum and how that is made.
func (rq *request) wholeObject(c *guarded.Complete) error {
	h := rq.r.Header
	if v := first(h["X-Amz-Mp-Object-Size"]); v != "" {
		n, err := parseSize(v)
		if err != nil {
			return invalid("x-amz-mp-object-size is %q; it must be a number of bytes", shorten(v))
		}
		c.Size = &n
	}
	for name, values := range h {
		suffix, ok := strings.CutPrefix(name, "X-Amz-Checksum-")
		algorithm := strings.ToUpper(suffix)
		switch {
		case !ok || algorithm == "ALGORITHM":
		case algorithm == "TYPE":
			if c.ChecksumType = strings.ToUpper(values[0]); c.ChecksumType != checksum.FullObject && c.ChecksumType != checksum.Composite {
				return invalid("x-amz-checksum-type is %q; it must be FULL_OBJECT or COMPOSITE", shorten(values[0]))
			}
		case !checksum.Kept(algorithm):
			return notImplemented("the header %s is not available in a guarded scope: no object keeps that checksum; leave it out", strings.ToLower(name))
		case c.Checksums != nil || len(values) > 1:
			return fail(http.StatusBadRequest, "InvalidRequest", "Expecting a single x-amz-checksum- header.")
		default:
			c.Checksums = map[string]string{algorithm: values[0]}
		}
	}
	return nil
}

// parseParts reads the parts of a Complete. Their order is judged with them.
func parseParts(doc []byte) ([]guarded.PartInfo, error) {
	var in completeXML
	if err := decode(doc, &in); err != nil {
		return nil, err
	}
	if len(in.Parts) == 0 || len(in.Parts) > maxPart {
		return nil, fail(http.StatusBadRequest, "MalformedXML", "The list has %d parts; it must have 1 to %d.", len(in.Parts), maxPart)
	}
	parts := make([]guarded.PartInfo, len(in.Parts))
	for i, p := range in.Parts {
		if p.PartNumber < 1 || p.PartNumber > maxPart {
			return nil, invalid("part number %d is not from 1 to %d", p.PartNumber, maxPart)
		}
		parts[i] = guarded.PartInfo{Number: p.PartNumber, ETag: strings.Trim(strings.TrimSpace(p.ETag), `"`)}
		for j, v := range [...]string{p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA1, p.ChecksumSHA256} {
			if v == "" {
				continue
			}
			if parts[i].Checksums == nil {
				parts[i].Checksums = map[string]string{}
			}
			parts[i].Checksums[checksumNames[j]] = v
		}
	}
	return parts, nil
}

func abortUpload(rq *request) error {
	if len(rq.r.Header["X-Amz-If-Match-Initiated-Time"]) > 0 {
		return notImplemented("the header x-amz-if-match-initiated-time is not available in a guarded scope; leave it out")
	}
	u := rq.upload()
	if err := rq.writer().Abort(rq.ctx, &u); err != nil {
		return err
	}
	return rq.noContent()
}

func listParts(rq *request) error {
	limit, err := rq.pageSize("max-parts")
	if err != nil {
		return err
	}
	encode, err := rq.encoding()
	if err != nil {
		return err
	}
	after := 0
	if v := rq.param("part-number-marker"); v != "" {
		if after, err = strconv.Atoi(v); err != nil || after < 0 {
			return invalid("part-number-marker is %q; it must be a number", shorten(v))
		}
	}
	u := rq.upload()
	page, err := rq.writer().ListParts(rq.ctx, &u, after, max(limit, 1))
	if err != nil {
		return err
	}
	parts, more := page.Parts, page.More
	if limit == 0 {
		parts, more = nil, false
	}
	x := newXML()
	defer x.free()
	x.root("ListPartsResult")
	x.text("Bucket", rq.bucket)
	if encode {
		x.text("Key", escapePath(rq.key))
	} else {
		x.text("Key", rq.key)
	}
	x.text("UploadId", u.ID)
	initiator(x, page.Creator)
	rq.owner(x, "Owner")
	x.text("StorageClass", cmp.Or(page.StorageClass, object.StandardClass))
	x.number("PartNumberMarker", int64(after))
	next := 0
	if len(parts) > 0 {
		next = parts[len(parts)-1].Number
	}
	x.number("NextPartNumberMarker", int64(next))
	x.number("MaxParts", int64(limit))
	x.flag("IsTruncated", more)
	x.some("ChecksumAlgorithm", page.Algorithm)
	x.some("ChecksumType", page.ChecksumType)
	for _, p := range parts {
		x.open("Part")
		x.number("PartNumber", int64(p.Number))
		x.when("LastModified", p.Modified)
		x.etag(p.ETag)
		x.number("Size", p.Size)
		x.checksums(p.Checksums)
		x.close("Part")
	}
	x.close("ListPartsResult")
	return rq.document(x)
}

// listUploads lists the open uploads of a bucket with a guard.
func listUploads(rq *request) error {
	limit, err := rq.pageSize("max-uploads")
	if err != nil {
		return err
	}
	encode, err := rq.encoding()
	if err != nil {
		return err
	}
	prefix, delimiter := rq.param("prefix"), rq.param("delimiter")
	afterKey, afterID := rq.param("key-marker"), rq.param("upload-id-marker")
	if err := rq.fencedList(prefix); err != nil {
		return err
	}
	page, err := rq.uploadPage(prefix, delimiter, afterKey, afterID, limit)
	if err != nil {
		return err
	}
	if err := rq.judgeList(); err != nil {
		return err
	}
	x := newXML()
	defer x.free()
	x.root("ListMultipartUploadsResult")
	x.text("Bucket", rq.bucket)
	x.name("KeyMarker", afterKey, encode)
	x.text("UploadIdMarker", afterID)
	if page.more {
		x.name("NextKeyMarker", page.nextKey, encode)
		x.text("NextUploadIdMarker", page.nextID)
	}
	x.name("Prefix", prefix, encode)
	if delimiter != "" {
		x.name("Delimiter", delimiter, encode)
	}
	if encode {
		x.text("EncodingType", "url")
	}
	x.number("MaxUploads", int64(limit))
	x.flag("IsTruncated", page.more)
	for _, u := range page.uploads {
		x.open("Upload")
		x.name("Key", u.Key, encode)
		x.text("UploadId", u.ID)
		initiator(x, u.Creator)
		rq.owner(x, "Owner")
		x.text("StorageClass", cmp.Or(u.StorageClass, object.StandardClass))
		x.when("Initiated", u.Initiated.UTC().Truncate(time.Millisecond))
		x.some("ChecksumAlgorithm", u.Algorithm)
		x.some("ChecksumType", u.ChecksumType)
		x.close("Upload")
	}
	for _, p := range page.prefixes {
		x.open("CommonPrefixes")
		x.name("Prefix", p, encode)
		x.close("CommonPrefixes")
	}
	x.close("ListMultipartUploadsResult")
	return rq.document(x)
}

// initiator writes who created an upload: an access key, or the one owner where that
// is not known, as of uploads that lie outside of guards.
func initiator(x *xmlWriter, creator string) {
	creator = cmp.Or(creator, ownerID)
	x.open("Initiator")
	x.text("ID", creator)
	x.text("DisplayName", creator)
	x.close("Initiator")
}

// uploadsPage is a page of open uploads, rolled up under the delimiter.
type uploadsPage struct {
	uploads         []guarded.UploadInfo
	prefixes        []string
	more            bool
	nextKey, nextID string
}

// uploadPage collects a page. The lister knows no delimiter; what is rolled up
// under one prefix is asked for in pages and shown once.
func (rq *request) uploadPage(prefix, delimiter, afterKey, afterID string, limit int) (page uploadsPage, err error) {
	if limit == 0 {
		return page, nil
	}
	last := ""
	// S3: without an upload id only keys above the marker are listed.
	skip := afterKey
	if afterID != "" {
		skip = ""
	}
	for range 100 {
		ups, more, err := rq.s.lister.ListUploads(rq.ctx, rq.list, rq.bucket, prefix, afterKey, afterID, maxKeys)
		if err != nil {
			return page, err
		}
		for _, u := range ups {
			if skip != "" && u.Key == skip {
				afterKey, afterID = u.Key, u.ID
				continue
			}
			rolled := ""
			if delimiter != "" {
				if i := strings.Index(u.Key[len(prefix):], delimiter); i >= 0 {
					rolled = u.Key[:len(prefix)+i+len(delimiter)]
				}
			}
			isNew := rolled == "" || rolled != last
			if isNew && len(page.uploads)+len(page.prefixes) == limit {
				page.more = true
				return page, nil
			}
			switch {
			case rolled == "":
				page.uploads = append(page.uploads, u)
			case isNew:
				page.prefixes = append(page.prefixes, rolled)
				last = rolled
			}
			afterKey, afterID = u.Key, u.ID
			page.nextKey, page.nextID = u.Key, u.ID
		}
		if !more || len(ups) == 0 {
			return page, nil
		}
	}
	page.more = true
	return page, nil
}
