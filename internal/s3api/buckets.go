package s3api

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// listBuckets shows the buckets that are mapped by name and those of the only
// store, as far as the caller may do anything in them.
func listBuckets(rq *request) error {
	created := map[string]time.Time{}
	for _, name := range rq.s.buckets.Names() {
		// Nobody knows, unless the store lists it below; clients want a date.
		created[name] = time.Unix(0, 0)
	}
	if only := rq.s.buckets.Only(); only != nil {
		if err := rq.storeBuckets(only, created); err != nil {
			return err
		}
	}
	limit := 10000
	if v := rq.param("max-buckets"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > limit {
			return invalid("max-buckets is %q; it must be from 1 to %d", shorten(v), limit)
		}
		limit = n
	}
	prefix, after := rq.param("prefix"), rq.param("continuation-token")
	if r := rq.param("bucket-region"); r != "" && r != rq.s.region {
		clear(created)
	}
	x := newXML()
	defer x.free()
	x.root("ListAllMyBucketsResult")
	rq.owner(x, "Owner")
	x.open("Buckets")
	shown, last, more := 0, "", false
	for _, name := range slices.Sorted(maps.Keys(created)) {
		if name <= after || !strings.HasPrefix(name, prefix) || !rq.who.MaySomewhere(auth.All, name) {
			continue
		}
		if shown == limit {
			more = true
			break
		}
		x.open("Bucket")
		x.text("Name", name)
		x.when("CreationDate", created[name])
		x.text("BucketRegion", rq.s.region)
		x.close("Bucket")
		shown, last = shown+1, name
	}
	x.close("Buckets")
	if more {
		x.text("ContinuationToken", last)
	}
	x.some("Prefix", prefix)
	x.close("ListAllMyBucketsResult")
	return rq.document(x)
}

// storeBuckets adds what the only store lists. Another name of a mapped bucket
// is left out: the bucket has one name here.
func (rq *request) storeBuckets(only *upstream.Client, created map[string]time.Time) error {
	resp, err := only.Do(rq.ctx, &upstream.Request{Method: http.MethodGet})
	if err != nil {
		if upstream.HasCode(err, "AccessDenied") {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	var out struct {
		Buckets []struct {
			Name         string
			CreationDate time.Time
		} `xml:"Buckets>Bucket"`
	}
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxRelayedDocument)).Decode(&out); err != nil {
		return errors.Join(errStrange, err)
	}
	upstreamNames := map[string]string{}
	for name := range created {
		if client, bucket, err := rq.s.buckets.Bucket(name); err == nil && client == only {
			upstreamNames[bucket] = name
		}
	}
	for _, b := range out.Buckets {
		if name, mapped := upstreamNames[b.Name]; mapped {
			created[name] = b.CreationDate
		} else if _, _, err := rq.s.buckets.Bucket(b.Name); err == nil {
			created[b.Name] = b.CreationDate
		}
	}
	return nil
}

// owner is the one owner that clients see: rights are the proxy's matter.
func (rq *request) owner(x *xmlWriter, element string) {
	x.open(element)
	x.text("ID", ownerID)
	x.text("DisplayName", ownerName)
	x.close(element)
}

const (
	ownerID   = "s3fence"
	ownerName = "s3fence"
)

func headBucket(rq *request) error {
	if err := rq.bucketExists(); err != nil {
		return err
	}
	return rq.empty()
}

// bucketExists asks the store. A bucket that is gone is told by name.
func (rq *request) bucketExists() error {
	client, bucket, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return err
	}
	err = client.HeadBucket(rq.ctx, bucket, nil)
	if upstream.NotFound(err) {
		return ErrNoSuchBucket
	}
	return err
}

func getLocation(rq *request) error {
	if err := rq.bucketExists(); err != nil {
		return err
	}
	x := newXML()
	defer x.free()
	region := rq.s.region
	if region == "us-east-1" {
		// S3 API, GetBucketLocation: this region is said by saying nothing.
		region = ""
	}
	x.root("LocationConstraint")
	x.escape(region)
	x.close("LocationConstraint")
	return rq.document(x)
}

// expectOwner asks the store whether a bucket belongs to whom the client says, as
// S3 does before anything else: what we answer, or do, ourselves has no request to
// the store that could carry the header.
func (rq *request) expectOwner(bucket, header string) error {
	v := rq.r.Header[header]
	if len(v) == 0 {
		return nil
	}
	client, name, err := rq.s.buckets.Bucket(bucket)
	if err != nil {
		return err
	}
	err = client.HeadBucket(rq.ctx, name, http.Header{"X-Amz-Expected-Bucket-Owner": v[:1]})
	switch {
	case upstream.HasCode(err, "Forbidden"):
		return denied("The bucket %s does not belong to the account that %s names.", bucket, strings.ToLower(header))
	case upstream.NotFound(err):
		return ErrNoSuchBucket
	}
	return err
}

// createBucket makes a bucket at the store. Many tools create a bucket before
// each upload: one who may use the bucket but not create it is told that it is
// there, as its owner would be.
func createBucket(rq *request) error {
	if !slices.ContainsFunc(toOwn, func(r auth.Right) bool { return rq.who.May(r, rq.bucket, "") }) {
		if rq.who.MaySomewhere(auth.All, rq.bucket) && rq.bucketExists() == nil {
			return fail(http.StatusConflict, "BucketAlreadyOwnedByYou", "The bucket %s exists.", rq.bucket)
		}
		return denied("Creating the bucket %s needs the right admin or write on all of it, which access key %s does not have.", rq.bucket, rq.who.AccessKey)
	}
	client, bucket, err := rq.s.buckets.Bucket(rq.bucket)
	if errors.Is(err, ErrNoSuchBucket) {
		return fail(http.StatusNotFound, "NoSuchBucket", "The bucket %s is not in the configuration of s3fence, which names its buckets one by one; add it there, under buckets, before it is created.", rq.bucket)
	}
	if err != nil {
		return err
	}
	doc, err := rq.readDocument(maxDocument, sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	var tags []upstream.Tag
	if len(strings.TrimSpace(string(doc))) > 0 {
		var c struct {
			XMLName            xml.Name `xml:"CreateBucketConfiguration"`
			LocationConstraint string
			Tags               []upstream.Tag `xml:"Tags>Tag"`
			// What would make another kind of bucket than was asked for, were it left
			// out: directory buckets have both.
			Location, Bucket *struct{}
		}
		if err := decode(doc, &c); err != nil {
			return err
		}
		if c.LocationConstraint != "" && c.LocationConstraint != rq.s.region {
			return fail(http.StatusBadRequest, "IllegalLocationConstraintException", "The location constraint %q is not the region here, %s.", shorten(c.LocationConstraint), rq.s.region)
		}
		if c.Location != nil || c.Bucket != nil {
			return notImplemented("directory buckets are not supported")
		}
		tags = c.Tags
	}
	h := rq.r.Header
	for _, name := range []string{"Content-Md5", "Content-Type", "X-Amz-Sdk-Checksum-Algorithm"} {
		delete(h, name)
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			delete(h, name)
		}
	}
	// A guard of a bucket that does not exist yet is nothing to wait for.
	if _, err := rq.s.guards.Current(); err != nil {
		return err
	}
	arn, err := client.CreateBucket(rq.ctx, bucket, tags, h)
	if err != nil {
		return err
	}
	if arn != "" && bucket == rq.bucket {
		rq.w.Header()["X-Amz-Bucket-Arn"] = []string{arn}
	}
	rq.w.Header()["Location"] = []string{"/" + rq.bucket}
	return rq.empty()
}

// getVersioning answers for a bucket with a guard: objects in scopes have no
// versions, whatever the store keeps.
func getVersioning(rq *request) error {
	x := newXML()
	defer x.free()
	x.root("VersioningConfiguration")
	x.close("VersioningConfiguration")
	return rq.document(x)
}

func getObjectLock(*request) error {
	return fail(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket.")
}
