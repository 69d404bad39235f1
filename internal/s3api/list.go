package s3api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
)

// maxKeys is S3's bound on a page of any list.
const maxKeys = 1000

// listQuery is a list request, version 1 or 2.
type listQuery struct {
	guarded.ListQuery
	v2     bool
	after  string // marker or start-after
	token  string // continuation-token as sent
	encode bool
	owner  bool
	limit  int
}

// pageSize reads max-keys and its like.
func (rq *request) pageSize(name string) (int, error) {
	v := rq.param(name)
	if v == "" {
		return maxKeys, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, invalid("%s is %q; it must be a number from 0 to 2147483647", name, shorten(v))
	}
	return int(min(n, maxKeys)), nil
}

// encoding reads encoding-type.
func (rq *request) encoding() (bool, error) {
	switch v := rq.param("encoding-type"); v {
	case "":
		return false, nil
	case "url":
		return true, nil
	default:
		return false, invalid("encoding-type is %q; it must be url", shorten(v))
	}
}

func (rq *request) listQuery() (q listQuery, err error) {
	q.v2 = rq.op.name == "ListObjectsV2"
	q.Bucket, q.Prefix, q.Delimiter = rq.bucket, rq.param("prefix"), rq.param("delimiter")
	if q.limit, err = rq.pageSize("max-keys"); err != nil {
		return q, err
	}
	q.Limit = max(q.limit, 1)
	if q.encode, err = rq.encoding(); err != nil {
		return q, err
	}
	for _, s := range [...]string{q.Prefix, q.Delimiter} {
		if !utf8.ValidString(s) || len(s) > fence.MaxKeyBytes {
			return q, invalid("prefix and delimiter must be UTF-8 of at most %d bytes", fence.MaxKeyBytes)
		}
	}
	if !q.v2 {
		q.after = rq.param("marker")
	} else {
		q.after, q.token, q.owner = rq.param("start-after"), rq.param("continuation-token"), rq.param("fetch-owner") == "true"
	}
	switch {
	case q.v2 && rq.has("continuation-token"):
		if q.From, err = readContinuation(q.token, &q.ListQuery); err != nil {
			return q, err
		}
	case q.after != "":
		// The first name above it. What is rolled up under a delimiter has the
		// prefix as its name, so a marker that is one skips it whole.
		q.From = q.after + "\x00"
	}
	return q, nil
}

// continuation tokens are version, check, and the name that the next page
// begins with. The check is no secret: it finds tokens of other lists, and of
// other servers.
const (
	continuationVersion = 1
	checkSize           = 8
)

func continuation(from string, q *guarded.ListQuery) string {
	check := continuationCheck(from, q)
	b := make([]byte, 0, 1+checkSize+len(from))
	b = append(b, continuationVersion)
	b = append(b, check[:checkSize]...)
	b = append(b, from...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func readContinuation(token string, q *guarded.ListQuery) (from string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(b) > 1+checkSize && b[0] == continuationVersion {
		from = string(b[1+checkSize:])
		check := continuationCheck(from, q)
		if bytes.Equal(check[:checkSize], b[1:1+checkSize]) {
			return from, nil
		}
	}
	return "", invalid("The continuation token provided is incorrect: it is none of this list")
}

func continuationCheck(from string, q *guarded.ListQuery) [sha256.Size]byte {
	var b []byte
	for _, s := range [...]string{"s3fence list", q.Bucket, q.Prefix, q.Delimiter, from} {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// fencedList judges a list that carries a token: one whose prefix lies wholly
// inside a scope. Where the token is the request's own, the list must be inside
// its scope; where the credentials carry it, other lists are as without.
func (rq *request) fencedList(prefix string) error {
	g, sc, ok := rq.list.Find(rq.bucket, prefix)
	if !ok {
		return rq.unguarded(rq.bucket, prefix)
	}
	if err := rq.enter(g, sc, prefix); err != nil {
		return err
	}
	return rq.judgeList()
}

// judgeList judges the token of a list, before it is read, where it may raise the mark
// (F5), and once more after: a list is read in pieces, and marks never fall, so all of
// them were read under the token if it is good still (F3). Looking for one object of
// the scope judges it; a list has no judge of its own.
func (rq *request) judgeList() error {
	if rq.side.Request.Token == 0 {
		return nil
	}
	sc := rq.side.Scope
	_, err := rq.s.reader.Stat(rq.ctx, rq.side, object.Ref{Bucket: rq.bucket, Key: sc.Prefix() + "-"})
	if errors.Is(err, object.ErrNoSuchKey) {
		return nil
	}
	return err
}

// listObjects answers both versions. Plain and guarded keys are merged by the
// lister; a bucket without a guard is the case where there is nothing to merge.
func listObjects(rq *request) error {
	q, err := rq.listQuery()
	if err != nil {
		return err
	}
	if _, _, err := rq.s.buckets.Bucket(rq.bucket); err != nil {
		return err
	}
	if err := rq.fencedList(q.Prefix); err != nil {
		return err
	}
	var entries []guarded.Entry
	var next string
	var more bool
	if q.limit > 0 {
		if entries, next, more, err = rq.s.lister.List(rq.ctx, rq.list, q.ListQuery); err != nil {
			return err
		}
		if err := rq.judgeList(); err != nil {
			return err
		}
	}
	x := newXML()
	defer x.free()
	x.list(&q, entries, next, more)
	return rq.document(x)
}

// listVersions lists a bucket with a guard as one that never had versioning: each
// object once.
func listVersions(rq *request) error {
	q, err := rq.listQuery()
	if err != nil {
		return err
	}
	q.owner = true
	after, version := rq.param("key-marker"), rq.param("version-id-marker")
	switch {
	case after == "" && version != "":
		return invalid("A version-id marker cannot be specified without a key marker.")
	case version != "" && version != nullVersion:
		return invalid("Invalid version id specified")
	case after != "":
		q.From = after + "\x00"
	}
	if err := rq.fencedList(q.Prefix); err != nil {
		return err
	}
	var entries []guarded.Entry
	var more bool
	if q.limit > 0 {
		if entries, _, more, err = rq.s.lister.List(rq.ctx, rq.list, q.ListQuery); err != nil {
			return err
		}
		if err := rq.judgeList(); err != nil {
			return err
		}
	}
	x := newXML()
	defer x.free()
	x.root("ListVersionsResult")
	x.text("Name", q.Bucket)
	x.name("Prefix", q.Prefix, q.encode)
	x.name("KeyMarker", after, q.encode)
	x.text("VersionIdMarker", version)
	if more && len(entries) > 0 {
		last := &entries[len(entries)-1]
		x.name("NextKeyMarker", last.Key, q.encode)
		if !last.Prefix {
			x.text("NextVersionIdMarker", nullVersion)
		}
	}
	x.number("MaxKeys", int64(q.limit))
	if q.Delimiter != "" {
		x.name("Delimiter", q.Delimiter, q.encode)
	}
	if q.encode {
		x.text("EncodingType", "url")
	}
	x.flag("IsTruncated", more)
	x.entries("Version", entries, &q)
	x.close("ListVersionsResult")
	return rq.document(x)
}

// name writes a name of a list, encoded where the client asked for it.
func (x *xmlWriter) name(element, s string, encode bool) {
	if encode {
		// Space as %20: a "+" is read back as a plus by some clients.
		s = escapePath(s)
	}
	x.open(element)
	x.escapeName(s)
	x.close(element)
}

// list renders a page. Source of the elements and their order: ListObjects and
// ListObjectsV2 in the Amazon S3 API reference.
func (x *xmlWriter) list(q *listQuery, entries []guarded.Entry, next string, more bool) {
	const root = "ListBucketResult"
	x.root(root)
	x.text("Name", q.Bucket)
	x.name("Prefix", q.Prefix, q.encode)
	if q.v2 {
		if q.token != "" {
			x.text("ContinuationToken", q.token)
		}
		if q.after != "" {
			x.name("StartAfter", q.after, q.encode)
		}
		x.number("KeyCount", int64(len(entries)))
	} else {
		x.name("Marker", q.after, q.encode)
	}
	x.number("MaxKeys", int64(q.limit))
	if q.Delimiter != "" {
		x.name("Delimiter", q.Delimiter, q.encode)
	}
	if q.encode {
		x.text("EncodingType", "url")
	}
	x.flag("IsTruncated", more)
	switch {
	case more && q.v2:
		x.text("NextContinuationToken", continuation(next, &q.ListQuery))
	case more && len(entries) > 0:
		// S3 gives it with a delimiter only; without one clients take the last key,
		// which is the same.
		x.name("NextMarker", entries[len(entries)-1].Key, q.encode)
	}
	x.entries("Contents", entries, q)
	x.close(root)
}

// entries writes keys as elements of a name, then the common prefixes.
func (x *xmlWriter) entries(element string, entries []guarded.Entry, q *listQuery) {
	for i := range entries {
		if e := &entries[i]; !e.Prefix {
			x.entry(element, e, q)
		}
	}
	for i := range entries {
		if e := &entries[i]; e.Prefix {
			x.open("CommonPrefixes")
			x.name("Prefix", e.Key, q.encode)
			x.close("CommonPrefixes")
		}
	}
}

func (x *xmlWriter) entry(element string, e *guarded.Entry, q *listQuery) {
	x.open(element)
	x.name("Key", e.Key, q.encode)
	if element == "Version" {
		x.text("VersionId", nullVersion)
		x.flag("IsLatest", true)
	}
	x.when("LastModified", e.Modified)
	x.etag(e.ETag)
	has := len(e.ChecksumAlgorithms) > 0
	for _, a := range e.ChecksumAlgorithms {
		x.text("ChecksumAlgorithm", a)
	}
	for _, a := range checksumNames {
		if e.Checksums[a] != "" {
			x.text("ChecksumAlgorithm", a)
			has = true
		}
	}
	if has {
		x.some("ChecksumType", e.ChecksumType)
	}
	x.number("Size", e.Size)
	if q.owner || !q.v2 {
		id, name := e.OwnerID, e.OwnerName
		if id == "" {
			id, name = ownerID, ownerName
		}
		x.open("Owner")
		x.text("ID", id)
		x.some("DisplayName", name)
		x.close("Owner")
	}
	class := e.StorageClass
	if class == "" {
		class = "STANDARD"
	}
	x.text("StorageClass", class)
	x.close(element)
}

// checksumNames are the algorithms in the order of their elements.
var checksumNames = []string{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"}

// checksums writes a Checksum… element for each.
func (x *xmlWriter) checksums(sums map[string]string) {
	for _, a := range checksumNames {
		x.some("Checksum"+a, sums[a])
	}
}
