package objectstore

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// conditions are what a request demands of the object that stands at its key.
// Conditions of writes are evaluated inside the transaction that writes.
type conditions struct {
	ifMatch, ifNoneMatch        string
	modifiedSince, unmodifiedBy time.Time // zero when absent or malformed, as RFC 9110 asks
	lastModified                time.Time // of a delete: equal to the second
	size                        *int64    // of a delete
}

func readConditions(h http.Header) conditions {
	return conditionsFrom(h, "")
}

// sourceConditions are those on the source of a copy.
func sourceConditions(h http.Header) conditions {
	return conditionsFrom(h, "X-Amz-Copy-Source-")
}

func conditionsFrom(h http.Header, prefix string) conditions {
	c := writeConditions(h, prefix)
	c.modifiedSince, _ = http.ParseTime(h.Get(prefix + "If-Modified-Since"))
	c.unmodifiedBy, _ = http.ParseTime(h.Get(prefix + "If-Unmodified-Since"))
	return c
}

// writeConditions are those on a key that is about to be written.
func writeConditions(h http.Header, prefix string) conditions {
	return conditions{
		ifMatch:     strings.Join(h.Values(prefix+"If-Match"), ","),
		ifNoneMatch: strings.Join(h.Values(prefix+"If-None-Match"), ","),
	}
}

func deleteConditions(etag, lastModified, size string) (conditions, error) {
	c := conditions{ifMatch: etag}
	if lastModified != "" {
		t, err := http.ParseTime(lastModified)
		if err != nil {
			if t, err = time.Parse(time.RFC3339Nano, lastModified); err != nil {
				return c, fail("InvalidArgument", "last modified time %q is neither an HTTP nor an ISO 8601 date", lastModified)
			}
		}
		c.lastModified = t
	}
	if size != "" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 {
			return c, fail("InvalidArgument", "size %q is not a number of bytes", size)
		}
		c.size = &n
	}
	return c, nil
}

// forRead judges a GET or HEAD, in the order of RFC 9110 section 13.2.2.
func (c conditions) forRead(o *object) error {
	if c.ifMatch != "" {
		if !etagIn(c.ifMatch, o.etag) {
			return errPrecondition
		}
	} else if !c.unmodifiedBy.IsZero() && o.modified.Truncate(time.Second).After(c.unmodifiedBy) {
		return errPrecondition
	}
	if c.ifNoneMatch != "" {
		if etagIn(c.ifNoneMatch, o.etag) {
			return errNotModified
		}
	} else if !c.modifiedSince.IsZero() && !o.modified.Truncate(time.Second).After(c.modifiedSince) {
		return errNotModified
	}
	return nil
}

// forSource judges the source of a copy, where S3 has 412 for every refusal.
func (c conditions) forSource(o *object) error {
	if err := c.forRead(o); err != nil {
		return errPrecondition
	}
	return nil
}

// forWrite judges a write over o, which is nil when the key is free.
// S3 answers 404, not 412, to If-Match on a free key.
func (c conditions) forWrite(o *object) error {
	if c.ifMatch != "" {
		if o == nil {
			return noSuchKey()
		}
		if !etagIn(c.ifMatch, o.etag) {
			return errPrecondition
		}
	}
	if c.ifNoneMatch != "" && o != nil && etagIn(c.ifNoneMatch, o.etag) {
		return errPrecondition
	}
	return nil
}

// forDelete judges the removal of o, which is nil when the key is free: then
// If-Match fails, and the other conditions, by S3's words, hold.
func (c conditions) forDelete(o *object) error {
	if o == nil {
		if c.ifMatch != "" {
			return errPrecondition
		}
		return nil
	}
	if c.ifMatch != "" && !etagIn(c.ifMatch, o.etag) ||
		!c.lastModified.IsZero() && !o.modified.Truncate(time.Second).Equal(c.lastModified.Truncate(time.Second)) ||
		c.size != nil && *c.size != o.size {
		return errPrecondition
	}
	return nil
}

// etagIn reports whether the header's list of entity tags has etag (given
// without quotes) or is "*". Tags without quotes are taken too, since clients
// send them.
func etagIn(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" {
			return true
		}
		if strings.Trim(strings.TrimPrefix(tag, "W/"), `"`) == etag {
			return true
		}
	}
	return false
}
