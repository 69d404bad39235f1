package upstream

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

var errNoProgress = errors.New("truncated without a marker that goes on")

// unescaper decodes the names in a listing: those of encoding-type=url, "+"
// being a space as in the answers of S3; bare ones where the store ignored the
// parameter. The first failure is kept.
type unescaper struct {
	encoded bool
	err     error
}

func (u *unescaper) name(s string) string {
	if !u.encoded || u.err != nil {
		return s
	}
	name, err := url.QueryUnescape(s)
	if err != nil {
		u.err = fmt.Errorf("name %q: %w", s, err)
	}
	return name
}

// ListQuery selects what [Client.ListObjects] lists. All names are exact bytes.
type ListQuery struct {
	Prefix, Delimiter string
	StartAfter        string // names above this one; ignored with Continuation
	Continuation      string // Next of the page before
	MaxKeys           int    // 1 to 1,000; 0 for the store's default
}

// Entry is one object in a listing.
type Entry struct {
	Key          string // exact bytes
	Size         int64
	ETag         string // without quotes
	LastModified time.Time
	StorageClass string
	// ChecksumAlgorithms and ChecksumType say which checksums it has, not their values.
	ChecksumAlgorithms []string
	ChecksumType       string
}

// Listing is one page of objects and common prefixes, each in byte order.
type Listing struct {
	Entries  []Entry
	Prefixes []string
	Next     string // token of the next page; "" at the end
}

// ListObjects lists with ListObjectsV2, always with encoding-type=url: XML
// cannot carry every byte that a key may have.
func (c *Client) ListObjects(ctx context.Context, bucket string, q ListQuery) (*Listing, error) {
	query := []Param{{"list-type", "2"}, {"encoding-type", "url"}, {"prefix", q.Prefix}}
	if q.Delimiter != "" {
		query = append(query, Param{"delimiter", q.Delimiter})
	}
	if q.Continuation != "" {
		query = append(query, Param{"continuation-token", q.Continuation})
	} else if q.StartAfter != "" {
		query = append(query, Param{"start-after", q.StartAfter})
	}
	if q.MaxKeys > 0 {
		query = append(query, Param{"max-keys", strconv.Itoa(q.MaxKeys)})
	}
	var out struct {
		XMLName      xml.Name `xml:"ListBucketResult"`
		EncodingType string
		IsTruncated  bool
		Next         string `xml:"NextContinuationToken"`
		Contents     []struct {
			Key          string
			Size         int64
			ETag         string
			LastModified time.Time
			StorageClass string

			ChecksumAlgorithm []string
			ChecksumType      string
		}
		CommonPrefixes []struct{ Prefix string }
	}
	r := &Request{Method: http.MethodGet, Bucket: bucket, Query: query}
	header, err := c.call(ctx, r, &out)
	if err != nil {
		return nil, err
	}
	u := unescaper{encoded: out.EncodingType == "url"}
	page := &Listing{Entries: make([]Entry, 0, len(out.Contents))}
	for _, e := range out.Contents {
		page.Entries = append(page.Entries, Entry{u.name(e.Key), e.Size, unquote(e.ETag), e.LastModified, e.StorageClass, e.ChecksumAlgorithm, e.ChecksumType})
	}
	for _, p := range out.CommonPrefixes {
		page.Prefixes = append(page.Prefixes, u.name(p.Prefix))
	}
	if out.IsTruncated {
		page.Next = out.Next
		if out.Next == "" || out.Next == q.Continuation {
			u.err = errNoProgress
		}
	}
	if u.err != nil {
		return nil, c.strange(r, &Response{Status: http.StatusOK, Header: header}, u.err)
	}
	return page, nil
}

// Upload is an open multipart upload.
type Upload struct {
	Key       string // exact bytes
	ID        string
	Initiated time.Time
}

// Uploads is one page of open uploads.
type Uploads struct {
	Uploads         []Upload
	NextKey, NextID string // markers of the next page; both "" at the end
}

// ListMultipartUploads lists open uploads under a prefix, in pages; afterKey
// and afterID are the markers that the page before returned, or empty.
func (c *Client) ListMultipartUploads(ctx context.Context, bucket, prefix, afterKey, afterID string, most int) (*Uploads, error) {
	if !strings.HasPrefix(afterKey, prefix) {
		// MinIO takes markers only that begin with the prefix. One below it is none,
		// and above it there is nothing.
		if afterKey > prefix {
			return &Uploads{}, nil
		}
		afterKey = ""
	}
	query := []Param{{"uploads", ""}, {"encoding-type", "url"}, {"prefix", prefix}}
	if afterKey != "" {
		query = append(query, Param{"key-marker", afterKey})
		if afterID != "" {
			query = append(query, Param{"upload-id-marker", afterID})
		}
	}
	if most > 0 {
		query = append(query, Param{"max-uploads", strconv.Itoa(most)})
	}
	var out struct {
		XMLName      xml.Name `xml:"ListMultipartUploadsResult"`
		EncodingType string
		IsTruncated  bool
		NextKey      string `xml:"NextKeyMarker"`
		NextID       string `xml:"NextUploadIdMarker"`
		Uploads      []struct {
			Key       string
			UploadID  string `xml:"UploadId"`
			Initiated time.Time
		} `xml:"Upload"`
	}
	r := &Request{Method: http.MethodGet, Bucket: bucket, Query: query}
	header, err := c.call(ctx, r, &out)
	if err != nil {
		return nil, err
	}
	u := unescaper{encoded: out.EncodingType == "url"}
	page := &Uploads{}
	for _, up := range out.Uploads {
		page.Uploads = append(page.Uploads, Upload{u.name(up.Key), up.UploadID, up.Initiated})
	}
	if out.IsTruncated {
		page.NextKey, page.NextID = u.name(out.NextKey), out.NextID
		if page.NextKey == "" || page.NextKey == afterKey && page.NextID == afterID {
			u.err = errNoProgress
		}
	}
	if u.err != nil {
		return nil, c.strange(r, &Response{Status: http.StatusOK, Header: header}, u.err)
	}
	return page, nil
}
