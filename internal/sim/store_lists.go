package sim

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// list answers ListObjectsV2. A continuation token is the last name of the page.
func (s *store) list(a *asked) told {
	q := a.query
	bucket, _, _ := strings.Cut(a.key, "/")
	prefix, delimiter := q.Get("prefix"), q.Get("delimiter")
	after := max(q.Get("start-after"), q.Get("continuation-token"))
	most, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil {
		most = 1000
	}
	var b strings.Builder
	n, last, more := 0, "", false
	for _, name := range slices.Sorted(maps.Keys(s.blobs)) {
		key, ok := strings.CutPrefix(name, bucket+"/")
		if !ok || !strings.HasPrefix(key, prefix) || s.at(name) == nil {
			continue
		}
		group := ""
		if delimiter != "" {
			if head, _, found := strings.Cut(key[len(prefix):], delimiter); found {
				group = prefix + head + delimiter
			}
		}
		if group != "" && group <= after || group == "" && key <= after || group != "" && group == last {
			continue
		}
		if n == most {
			more = true
			break
		}
		n++
		if group != "" {
			last = group
			fmt.Fprintf(&b, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", url.QueryEscape(group))
			continue
		}
		last = key
		o := s.at(name)
		fmt.Fprintf(&b, "<Contents><Key>%s</Key><Size>%d</Size><ETag>&quot;%s&quot;</ETag><LastModified>%s</LastModified></Contents>",
			url.QueryEscape(key), len(o.body), o.etag, o.stamp.UTC().Format(time.RFC3339))
	}
	next := ""
	if more {
		next = "<NextContinuationToken>" + url.QueryEscape(last) + "</NextContinuationToken>"
	}
	return document("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>%v</IsTruncated>%s%s</ListBucketResult>", more, next, b.String())
}

func (s *store) listUploads(a *asked) told {
	bucket, _, _ := strings.Cut(a.key, "/")
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.uploads)) {
		up := s.uploads[id]
		key, ok := strings.CutPrefix(up.key, bucket+"/")
		if !ok || !strings.HasPrefix(key, a.query.Get("prefix")) {
			continue
		}
		fmt.Fprintf(&b, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>",
			url.QueryEscape(key), id, up.began.UTC().Format(time.RFC3339))
	}
	return document("<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>%s</ListMultipartUploadsResult>", b.String())
}

func (s *store) listParts(a *asked) told {
	up := s.uploads[a.query.Get("uploadId")]
	if up == nil {
		return failed(http.StatusNotFound, "NoSuchUpload")
	}
	after, _ := strconv.Atoi(a.query.Get("part-number-marker"))
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(up.parts)) {
		if n > after {
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag><Size>%d</Size><LastModified>%s</LastModified></Part>",
				n, up.parts[n].etag, len(up.parts[n].body), up.began.UTC().Format(time.RFC3339))
		}
	}
	return document("<ListPartsResult><IsTruncated>false</IsTruncated>%s</ListPartsResult>", b.String())
}

func (s *store) deleteMany(a *asked) told {
	bucket, _, _ := strings.Cut(a.key, "/")
	var list struct {
		Quiet   bool
		Objects []struct{ Key string } `xml:"Object"`
	}
	if err := xml.Unmarshal(a.body, &list); err != nil {
		return failed(http.StatusBadRequest, "MalformedXML")
	}
	var b strings.Builder
	for _, o := range list.Objects {
		s.remove(bucket+"/"+o.Key, a.node)
		if !list.Quiet {
			fmt.Fprintf(&b, "<Deleted><Key>%s</Key></Deleted>", o.Key)
		}
	}
	return document("<DeleteResult>%s</DeleteResult>", b.String())
}
