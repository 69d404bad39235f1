package upstream

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// CreateMultipartUpload opens an upload and returns its id.
func (c *Client) CreateMultipartUpload(ctx context.Context, bucket, key string, h http.Header) (uploadID string, err error) {
	r := &Request{Method: http.MethodPost, Bucket: bucket, Key: key, Query: []Param{{"uploads", ""}}, Mutation: true, Header: h}
	// The root's name is not demanded: gofakes3 calls it InitiateMultipartUpload.
	var out struct {
		UploadID string `xml:"UploadId"`
	}
	header, err := c.call(ctx, r, &out)
	if err != nil {
		return "", err
	}
	if out.UploadID == "" {
		return "", c.strange(r, &Response{Status: http.StatusOK, Header: header}, fmt.Errorf("no UploadId"))
	}
	return out.UploadID, nil
}

func partQuery(uploadID string, number int) []Param {
	return []Param{{"partNumber", strconv.Itoa(number)}, {"uploadId", uploadID}}
}

// UploadPart stores length bytes of body as part number (1 to 10,000) of an upload.
func (c *Client) UploadPart(ctx context.Context, bucket, key, uploadID string, number int, body io.Reader, length int64, o PutOptions) (*Stored, error) {
	return c.store(ctx, &Request{
		Method: http.MethodPut, Bucket: bucket, Key: key, Query: partQuery(uploadID, number), Mutation: true,
		Header: with(o.Header, "Content-Md5", o.ContentMD5), Body: body, ContentLength: length,
	})
}

// UploadPartCopy stores an object, or a range of one, as part number of an upload.
func (c *Client) UploadPartCopy(ctx context.Context, src Source, bucket, key, uploadID string, number int, h http.Header) (*Stored, error) {
	return c.copy(ctx, &Request{
		Method: http.MethodPut, Bucket: bucket, Key: key, Query: partQuery(uploadID, number), Mutation: true, Header: src.header(h),
	})
}

// Part is one part of an upload.
type Part struct {
	Number       int
	ETag         string // without quotes
	Size         int64  // listings only
	LastModified time.Time

	// Checksums by element name (ChecksumCRC32, ChecksumSHA256, …).
	Checksums map[string]string
}

var checksumElements = []string{
	"ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256",
}

// CompleteMultipartUpload makes the parts, in ascending order of number, the
// object. Stores were seen to answer 200 for an upload that had been aborted:
// check with HeadObject that the object is there before relying on it.
func (c *Client) CompleteMultipartUpload(ctx context.Context, bucket, key, uploadID string, parts []Part, h http.Header) (*Stored, error) {
	var b bytes.Buffer
	b.WriteString(`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for _, p := range parts {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>", p.Number)
		xml.EscapeText(&b, []byte(quote(p.ETag)))
		b.WriteString("</ETag>")
		for _, name := range checksumElements {
			if sum := p.Checksums[name]; sum != "" {
				fmt.Fprintf(&b, "<%s>", name)
				xml.EscapeText(&b, []byte(sum))
				fmt.Fprintf(&b, "</%s>", name)
			}
		}
		b.WriteString("</Part>")
	}
	b.WriteString("</CompleteMultipartUpload>")

	r := &Request{
		Method: http.MethodPost, Bucket: bucket, Key: key, Query: []Param{{"uploadId", uploadID}}, Mutation: true,
		Header: with(h, "Content-Type", "application/xml"), Body: bytes.NewReader(b.Bytes()), ContentLength: int64(b.Len()),
	}
	return c.copy(ctx, r)
}

// AbortMultipartUpload ends an upload without an object. Neither success nor
// NoSuchUpload proves that a Complete under way will not win: never abort what
// may be completing.
func (c *Client) AbortMultipartUpload(ctx context.Context, bucket, key, uploadID string) error {
	_, err := c.Do(ctx, &Request{Method: http.MethodDelete, Bucket: bucket, Key: key, Query: []Param{{"uploadId", uploadID}}, Mutation: true})
	return err
}

// Parts is one page of an upload's parts.
type Parts struct {
	Parts []Part
	Next  int // marker of the next page; 0 at the end
}

// ListParts lists at most most (up to 1,000; 0 for the store's default) parts
// with numbers above after.
func (c *Client) ListParts(ctx context.Context, bucket, key, uploadID string, after, most int) (*Parts, error) {
	q := []Param{{"uploadId", uploadID}}
	if after > 0 {
		q = append(q, Param{"part-number-marker", strconv.Itoa(after)})
	}
	if most > 0 {
		q = append(q, Param{"max-parts", strconv.Itoa(most)})
	}
	var out struct {
		XMLName     xml.Name `xml:"ListPartsResult"`
		IsTruncated bool
		Next        int `xml:"NextPartNumberMarker"`
		Parts       []struct {
			PartNumber   int
			ETag         string
			Size         int64
			LastModified time.Time
			Rest         []struct {
				XMLName xml.Name
				Value   string `xml:",chardata"`
			} `xml:",any"`
		} `xml:"Part"`
	}
	r := &Request{Method: http.MethodGet, Bucket: bucket, Key: key, Query: q}
	header, err := c.call(ctx, r, &out)
	if err != nil {
		return nil, err
	}
	page := &Parts{}
	for _, p := range out.Parts {
		part := Part{Number: p.PartNumber, ETag: unquote(p.ETag), Size: p.Size, LastModified: p.LastModified}
		for _, e := range p.Rest {
			if slices.Contains(checksumElements, e.XMLName.Local) {
				if part.Checksums == nil {
					part.Checksums = make(map[string]string, 1)
				}
				part.Checksums[e.XMLName.Local] = e.Value
			}
		}
		page.Parts = append(page.Parts, part)
	}
	if out.IsTruncated {
		if out.Next <= after {
			return nil, c.strange(r, &Response{Status: http.StatusOK, Header: header}, errNoProgress)
		}
		page.Next = out.Next
	}
	return page, nil
}
