package s3api

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/guarded"
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
	algorithm := strings.ToUpper(first(rq.r.Header["X-Amz-Checksum-Algorithm"]))
	if algorithm != "" && sigv4.Algorithm(algorithm).Size() == 0 {
		return notImplemented("the checksum algorithm %q is not supported", shorten(algorithm))
	}
	switch kind := strings.ToUpper(first(rq.r.Header["X-Amz-Checksum-Type"])); kind {
	case "", "FULL_OBJECT", "COMPOSITE":
		c.ChecksumType = kind
	default:
		return invalid("x-amz-checksum-type is %q; it must be FULL_OBJECT or COMPOSITE", shorten(kind))
	}
	id, err := rq.writer().CreateUpload(rq.ctx, c)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	if algorithm != "" {
		h["X-Amz-Checksum-Algorithm"] = []string{algorithm}
	}
	if c.ChecksumType != "" {
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

func uploadPart(rq *request) error {
	p := &guarded.Part{UploadRef: rq.upload()}
	var err error
	if p.Number, err = rq.partNumber(); err != nil {
		return err
	}
	if err := refuseCustomerKeys(rq.r.Header); err != nil {
		return err
	}
	b, err := rq.openBody(sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	p.Body, p.Size, p.Checksums, p.Verified = meter{b, rq}, b.Length(), clientSums(b), trailerSums(b)
	if p.Size < 0 {
		// Its length is wanted before its bytes.
		body, err := rq.spool(b, false)
		if err != nil {
			return err
		}
		defer body.Close()
		p.Body, p.Size = body, body.length
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
	h := rq.r.Header
	for name := range h {
		// What only the whole object's bytes could prove is refused, not believed.
		if name == "X-Amz-Mp-Object-Size" || strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Type" {
			return notImplemented("the header %s on CompleteMultipartUpload is not available in a guarded scope; leave it out", strings.ToLower(name))
		}
	}
	c := &guarded.Complete{UploadRef: rq.upload()}
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
	parts, more, err := rq.writer().ListParts(rq.ctx, &u, after, max(limit, 1))
	if err != nil {
		return err
	}
	if limit == 0 {
		parts, more = nil, false
	}
	x := newXML()
	defer x.free()
	x.root("ListPartsResult")
	x.text("Bucket", rq.bucket)
	x.name("Key", rq.key, encode)
	x.text("UploadId", u.ID)
	rq.owner(x, "Initiator")
	rq.owner(x, "Owner")
	x.text("StorageClass", "STANDARD")
	x.number("PartNumberMarker", int64(after))
	next := 0
	if len(parts) > 0 {
		next = parts[len(parts)-1].Number
	}
	x.number("NextPartNumberMarker", int64(next))
	x.number("MaxParts", int64(limit))
	x.flag("IsTruncated", more)
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
		x.open("Initiator")
		x.text("ID", orOwner(u.Creator))
		x.close("Initiator")
		rq.owner(x, "Owner")
		x.text("StorageClass", "STANDARD")
		x.when("Initiated", u.Initiated.UTC().Truncate(time.Millisecond))
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

func orOwner(creator string) string {
	if creator == "" {
		return ownerID
	}
	return creator
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
