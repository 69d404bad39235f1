package upstream

import (
	"context"
	"encoding/xml"
	"net/http"
)

// Tag is one tag of an object.
type Tag struct{ Key, Value string }

// ObjectTags reads the tags of an object, in the store's order.
func (c *Client) ObjectTags(ctx context.Context, bucket, key string) ([]Tag, error) {
	var out struct {
		XMLName xml.Name `xml:"Tagging"`
		Tags    []Tag    `xml:"TagSet>Tag"`
	}
	r := &Request{Method: http.MethodGet, Bucket: bucket, Key: key, Query: []Param{{"tagging", ""}}}
	if _, err := c.call(ctx, r, &out); err != nil {
		return nil, err
	}
	return out.Tags, nil
}
