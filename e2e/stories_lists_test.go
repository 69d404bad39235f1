package e2e

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type listing struct {
	XMLName                                                               xml.Name `xml:"ListBucketResult"`
	Name, Prefix, Delimiter, Marker, NextMarker, StartAfter, EncodingType string
	NextContinuationToken                                                 string
	KeyCount, MaxKeys                                                     int
	IsTruncated                                                           bool
	Contents                                                              []struct {
		Key, ETag, LastModified, StorageClass string
		Size                                  int64
	}
	CommonPrefixes []struct{ Prefix string }
}

// listQuery is one way to list a bucket.
type listQuery struct {
	v1                       bool
	prefix, delimiter, after string
	maxKeys                  int
	encoded                  bool
}

// listAll lists page by page and returns keys and common prefixes in the order
// in which they came, prefixes marked by "→".
func listAll(t *testing.T, p *Proxy, bucket string, q listQuery) []string {
	t.Helper()
	var all []string
	after, token := q.after, ""
	for page := 0; ; page++ {
		require.Less(t, page, 500, "a list does not end")
		query := url.Values{}
		set := func(name, value string) {
			if value != "" {
				query.Set(name, value)
			}
		}
		set("prefix", q.prefix)
		set("delimiter", q.delimiter)
		if q.maxKeys > 0 {
			set("max-keys", fmt.Sprint(q.maxKeys))
		}
		if q.encoded {
			set("encoding-type", "url")
		}
		if q.v1 {
			set("marker", after)
		} else {
			query.Set("list-type", "2")
			if token == "" {
				set("start-after", after)
			}
			set("continuation-token", token)
		}
		var l listing
		p.Send(t, Request{Method: "GET", Bucket: bucket, Query: query}).Want(t, 200).XML(t, &l)
		decode := func(s string) string {
			if !q.encoded {
				return s
			}
			plain, err := url.PathUnescape(strings.ReplaceAll(s, "+", "%20"))
			require.NoError(t, err, s)
			return plain
		}
		assert.Equal(t, bucket, l.Name)
		assert.Equal(t, q.prefix, decode(l.Prefix))
		assert.Equal(t, q.delimiter, decode(l.Delimiter))
		n := len(l.Contents) + len(l.CommonPrefixes)
		if q.maxKeys > 0 {
			require.LessOrEqual(t, n, q.maxKeys)
		}
		if !q.v1 {
			assert.Equal(t, n, l.KeyCount)
		}
		type item struct{ at, shown string }
		var items []item
		for _, entry := range l.Contents {
			key := decode(entry.Key)
			items = append(items, item{key, key})
			assert.Equal(t, int64(len(key)), entry.Size, key)
			assert.Equal(t, `"`+hexMD5(key)+`"`, entry.ETag, key)
			assert.NotEmpty(t, entry.LastModified)
		}
		require.True(t, slices.IsSortedFunc(items, func(a, b item) int { return strings.Compare(a.at, b.at) }), "out of order: %v", items)
		for _, entry := range l.CommonPrefixes {
			items = append(items, item{decode(entry.Prefix), "→" + decode(entry.Prefix)})
		}
		slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.at, b.at) })
		for _, i := range items {
			all = append(all, i.shown)
		}
		if !l.IsTruncated {
			return all
		}
		require.NotEmpty(t, items, "an empty page of a list that goes on")
		if !q.v1 {
			token = l.NextContinuationToken
			require.NotEmpty(t, token)
			continue
		}
		if q.delimiter != "" {
			require.NotEmpty(t, l.NextMarker, "version 1 with a delimiter says where to go on")
			after = decode(l.NextMarker)
			continue
		}
		after = items[len(items)-1].at
	}
}

// listed is what S3 lists: keys that begin with the prefix and come after
// "after", rolled up at the delimiter.
func listed(keys []string, q listQuery) []string {
	var all []string
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if !strings.HasPrefix(key, q.prefix) {
			continue
		}
		at, shown := key, key
		if q.delimiter != "" {
			if i := strings.Index(key[len(q.prefix):], q.delimiter); i >= 0 {
				at = key[:len(q.prefix)+i+len(q.delimiter)]
				shown = "→" + at
			}
		}
		if at <= q.after || len(all) > 0 && all[len(all)-1] == shown {
			continue
		}
		all = append(all, shown)
	}
	return all
}

func TestListsMergePlainAndSealed(t *testing.T) {
	t.Parallel()
	for _, place := range []struct {
		name   string
		scopes []string
		open   func(t *testing.T) *Cluster
	}{
		{"PostgreSQL and MinIO", []string{"jobs/", "tenants/a/", "tenants/b/"}, func(t *testing.T) *Cluster {
			return NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "tenants/*/"}}})
		}},
		{"dev", []string{"jobs/", "tenants/", "a/"}, func(t *testing.T) *Cluster { return NewDev(t, Options{}) }},
	} {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			c := place.open(t)
			p := c.Proxies[0]
			keys := []string{
				// Plain neighbours of the scopes, in byte order before and after them.
				"jobs", "jobs!", "jobs-x", "jobs.txt", "jobs0", "zz top", "a+b", "é", "Zebra", "100%",
			}
			for _, key := range keys {
				p.Put(t, key, key).Want(t, 200)
			}
			if place.name != "dev" {
				for _, key := range []string{"jobsz/1", "logs/2026/01", "logs/2026/02", "logs/2027/01", "tenants/readme", "tenantsx/1"} {
					p.Put(t, key, key).Want(t, 200)
					keys = append(keys, key)
				}
			}
			for _, scope := range place.scopes {
				token := c.Acquire(scope, "lister")
				for _, name := range []string{
					"1", "10", "2", "d", "d/e", "d/f/g", "d0", "sub dir/a", "sub dir/b", "ü", "a&b<c>'\"", "50%25", "p+q", "line\nbreak", "\x01", "~", "日本/語",
				} {
					key := scope + name
					p.PutToken(t, key, key, token).Want(t, 200)
					keys = append(keys, key)
				}
			}
			for _, prefix := range []string{"", "j", "jobs", "jobs/", "jobs/d", "tenants/", "tenants/a/s", "none"} {
				for _, delimiter := range []string{"", "/", "s/", "0"} {
					for _, after := range []string{"", "jobs/10", "jobs/d/", "jobs/zzz", "tenants/"} {
						for _, v1 := range []bool{false, true} {
							for _, maxKeys := range []int{0, 3} {
								q := listQuery{v1: v1, prefix: prefix, delimiter: delimiter, after: after, maxKeys: maxKeys, encoded: true}
								require.Equal(t, listed(keys, q), listAll(t, p, c.Bucket, q), "%+v", q)
							}
						}
					}
				}
			}
			// One at a time, through everything.
			for _, v1 := range []bool{false, true} {
				q := listQuery{v1: v1, maxKeys: 1, encoded: true}
				assert.Equal(t, listed(keys, q), listAll(t, p, c.Bucket, q))
			}
			// Not encoded, as far as XML can carry it.
			q := listQuery{prefix: "jobs/s"}
			assert.Equal(t, listed(keys, q), listAll(t, p, c.Bucket, q))
			// None at all.
			var none listing
			p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}, "max-keys": {"0"}}}).Want(t, 200).XML(t, &none)
			assert.Empty(t, none.Contents)
			assert.False(t, none.IsTruncated)
			p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}, "max-keys": {"many"}}}).WantCode(t, 400, "InvalidArgument")
		})
	}
}
