package object

import (
	"fmt"
	"net/textproto"
	"strings"
	"time"
)

// Conditions are the preconditions of a request (RFC 9110 section 13; for
// writes https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html).
// The zero value has none. ETags are kept as sent; "*" stands for any.
type Conditions struct {
	IfMatch           string
	IfNoneMatch       string
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
	// IfSize and IfLastModified are the extra conditions of a delete
	// (x-amz-if-match-size, x-amz-if-match-last-modified-time).
	IfSize         *int64
	IfLastModified time.Time
}

// Any reports whether there is a condition at all.
func (c Conditions) Any() bool { return c != (Conditions{}) }

// matches compares an ETag list of a header with an entity tag. S3 compares
// weakly and takes ETags with or without quotes.
func matches(list, etag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = textproto.TrimString(item)
		if item == "*" {
			return true
		}
		if strings.Trim(strings.TrimPrefix(item, "W/"), `"`) == etag {
			return true
		}
	}
	return false
}

// CheckWrite evaluates the conditions of a write against the object as it
// stands; old is nil where there is none. The answers follow S3: If-Match on
// what does not exist is ErrNoSuchKey, a false condition ErrPreconditionFailed.
func (c Conditions) CheckWrite(old *Info) error {
	if c.IfMatch != "" {
		if old == nil {
			return ErrNoSuchKey
		}
		if !matches(c.IfMatch, old.ETag) {
			return ErrPreconditionFailed
		}
	}
	if c.IfNoneMatch != "" && old != nil && matches(c.IfNoneMatch, old.ETag) {
		return ErrPreconditionFailed
	}
	if old != nil {
		if c.IfSize != nil && *c.IfSize != old.Size {
			return ErrPreconditionFailed
		}
		if !c.IfLastModified.IsZero() && !sameSecond(c.IfLastModified, old.Modified) {
			return ErrPreconditionFailed
		}
	}
	return nil
}

// CheckRead evaluates the conditions of a GET, a HEAD or (as a copy's source
// conditions) of a copy, in the order of RFC 9110 section 13.2.2. A false
// If-None-Match or If-Modified-Since is ErrNotModified, which a copy answers
// with ErrPreconditionFailed.
func (c Conditions) CheckRead(obj *Info) error {
	if c.IfMatch != "" {
		if !matches(c.IfMatch, obj.ETag) {
			return ErrPreconditionFailed
		}
	} else if !c.IfUnmodifiedSince.IsZero() && seconds(obj.Modified).After(c.IfUnmodifiedSince) {
		return ErrPreconditionFailed
	}
	if c.IfNoneMatch != "" {
		if matches(c.IfNoneMatch, obj.ETag) {
			return ErrNotModified
		}
	} else if !c.IfModifiedSince.IsZero() && !seconds(obj.Modified).After(c.IfModifiedSince) {
		return ErrNotModified
	}
	return nil
}

// HTTP dates have whole seconds.
func seconds(t time.Time) time.Time { return t.Truncate(time.Second) }

func sameSecond(a, b time.Time) bool { return seconds(a).Equal(seconds(b)) }

// CheckWritable refuses the conditions that S3 does not take on a write.
func (c Conditions) CheckWritable() error {
	if c.IfNoneMatch != "" && c.IfNoneMatch != "*" {
		return fmt.Errorf("If-None-Match on a write takes * only, not %q", c.IfNoneMatch)
	}
	if c.IfMatch != "" && c.IfNoneMatch != "" {
		return fmt.Errorf("a write takes If-Match or If-None-Match, not both")
	}
	return nil
}
