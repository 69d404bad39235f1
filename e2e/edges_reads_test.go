package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// readHeaders are what a read says of an object.
var readHeaders = []string{
	"Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type",
	"Etag", "Expires", "X-Amz-Meta-Colour", "X-Amz-Tagging-Count", "X-Amz-Mp-Parts-Count",
}

// notModifiedHeaders are those of a 304 (RFC 9110, section 15.4.5). versitygw
// sends none, which is checked apart.
var notModifiedHeaders = []string{"Cache-Control", "Etag", "Expires"}

// reading is what a client gets of one read, dates and ids aside.
func reading(a Answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", a.Status)
	if a.Status >= 400 {
		// The length and type of an error's document are no matter.
		b.WriteString(" " + a.Failure().Code)
		return b.String()
	}
	for _, name := range readHeaders {
		if a.Status == 304 && !slices.Contains(notModifiedHeaders, name) {
			continue
		}
		if v := a.Header.Values(name); len(v) > 0 {
			fmt.Fprintf(&b, "\n%s: %s", name, strings.Join(v, ", "))
		}
	}
	if a.Header.Get("Last-Modified") == "" && a.Status != 304 {
		b.WriteString("\nno Last-Modified")
	}
	fmt.Fprintf(&b, "\n%s", hexMD5(a.Body))
	return b.String()
}

// makeObjects puts the same objects in each way that there is into a place; it
// returns their names.
func makeObjects(t *testing.T, p *Proxy, prefix, body string) []string {
	t.Helper()
	bucket := p.cluster.Bucket
	about := map[string]string{
		"Content-Type": "text/x-odd; charset=utf-8", "Cache-Control": "max-age=7", "Content-Disposition": `attachment; filename="a b"`,
		"Content-Language": "de", "X-Amz-Meta-Colour": "blue", "X-Amz-Tagging": "k=v",
	}
	put := Request{Method: "PUT", Bucket: bucket, Key: prefix + "put", Body: body, Header: about}
	p.Send(t, put).Want(t, 200)
	put.Key, put.Body = prefix+"empty", ""
	p.Send(t, put).Want(t, 200)
	copied := func(to, from string) {
		p.Send(t, Request{Method: "PUT", Bucket: bucket, Key: prefix + to, Header: map[string]string{"X-Amz-Copy-Source": escape(bucket + "/" + prefix + from)}}).Want(t, 200)
	}
	copied("copy", "put")
	copied("copy of empty", "empty")
	key := prefix + "parts"
	var up struct {
		UploadID string `xml:"UploadId"`
	}
	p.Send(t, Request{Method: "POST", Bucket: bucket, Key: key, Query: url.Values{"uploads": {""}}, Header: about}).Want(t, 200).XML(t, &up)
	var etags []string
	for n, part := range []string{strings.Repeat("p", 5<<20), body} {
		q := url.Values{"uploadId": {up.UploadID}, "partNumber": {strconv.Itoa(n + 1)}}
		etags = append(etags, p.Send(t, Request{Method: "PUT", Bucket: bucket, Key: key, Query: q, Body: part}).Want(t, 200).Header.Get("Etag"))
	}
	p.Send(t, Request{Method: "POST", Bucket: bucket, Key: key, Query: url.Values{"uploadId": {up.UploadID}}, Body: completed(etags)}).Want(t, 200)
	return []string{"put", "empty", "copy", "copy of empty", "parts"}
}

// ownWays are reads that a store answers in a way of its own, in all objects or in
// empty ones; what answers them otherwise, each is asked for in one of the two.
var ownWays = map[string]map[string]string{
	"MinIO": {
		"range 10-5":                           "416; RFC 9110, section 14.1.1: such a header is ignored",
		"If-None-Match and If-Modified-Since":  "304; section 13.1.3: the date does not count beside If-None-Match",
		"empty: range -5":                      "206 without a Content-Range",
		"empty: range -999999999":              "206 without a Content-Range",
		"empty: a bad range and If-None-Match": "416; section 13.2.2: conditions come first",
	},
	"versitygw": {
		"range +1-2":               "a sign is taken for a number's",
		"If-Modified-Since then":   "200: dates are compared by fractions of a second that no header has",
		"If-Unmodified-Since then": "412: likewise",
	},
}

// What is read of an object in a scope is what the store would say of it: plain,
// copied, made of parts, empty, and taken in by a new guard; whole, in ranges and
// under conditions.
func TestEdgesReads(t *testing.T) {
	t.Parallel()
	for brand, server := range map[string]*storetest.Server{"MinIO": storetest.MinIO(t), "versitygw": storetest.Versitygw(t)} {
		t.Run(brand, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{MinIO: server, Guards: []Guard{{Prefix: "sealed/", Tokens: "none"}}})
			p, store := c.Proxies[0], direct(t, c.Store)
			body := strings.Repeat("0123456789", 100)
			names := makeObjects(t, store, "there/", body)
			makeObjects(t, p, "sealed/", body)
			makeObjects(t, p, "adopted/", body)
			c.AddGuard(p, Guard{Prefix: "adopted/", Tokens: "none"})
			for _, of := range names {
				t.Run(of, func(t *testing.T) {
					size := len(body)
					switch {
					case strings.Contains(of, "empty"):
						size = 0
					case of == "parts":
						size += 5 << 20
					}
					from := func(place, method string, r Request, conditions func(etag string, modified time.Time) map[string]string) string {
						at := p
						if place == "there/" {
							at = store
						}
						r.Method, r.Bucket, r.Key = method, at.cluster.Bucket, place+of
						if conditions != nil {
							head := at.Send(t, Request{Method: "HEAD", Bucket: r.Bucket, Key: r.Key}).Want(t, 200)
							modified, err := http.ParseTime(head.Header.Get("Last-Modified"))
							require.NoError(t, err)
							for k, v := range conditions(head.Header.Get("Etag"), modified) {
								r.Header = with(r.Header, k, v)
							}
						}
						a := at.Send(t, r)
						if a.Status == 304 && brand == "versitygw" {
							if place != "there/" {
								assert.NotEmpty(t, a.Header.Get("Etag"))
							}
							a.Header = nil
						}
						return reading(a)
					}
					check := func(what string, r Request, conditions func(string, time.Time) map[string]string) {
						t.Helper()
						odd := ownWays[brand][what] != "" || size == 0 && ownWays[brand]["empty: "+what] != ""
						differs := false
						for _, method := range []string{"GET", "HEAD"} {
							want := from("there/", method, r, conditions)
							if odd {
								// No measure; but the ways of writing must not differ either.
								ours := from("sealed/", method, r, conditions)
								differs, want = differs || ours != want, ours
							}
							for _, place := range []string{"sealed/", "adopted/"} {
								assert.Equal(t, want, from(place, method, r, conditions), "%s %s of %s%s", method, what, place, of)
							}
						}
						assert.Equal(t, odd, differs, "%s of %s: %s answers as we do; strike it from ownWays", what, of, brand)
					}
					check("whole", Request{}, nil)
					for _, v := range []string{
						"0-0", "5-", "-5", "-0", "0-", "7-7", "10-5", fmt.Sprintf("%d-", size), fmt.Sprintf("%d-", size-1), "0-999999999", "-999999999",
						fmt.Sprintf("%d-%d", size, size+5), "3-4,8-9", "a-b", "", " 0-1", "1-2 ", "99999999999999999999-", "+1-2", "1",
					} {
						check("range "+v, Request{Header: map[string]string{"Range": "bytes=" + v}}, nil)
					}
					check("other unit", Request{Header: map[string]string{"Range": "items=0-1"}}, nil)
					date := func(d time.Duration) func(time.Time) string {
						return func(m time.Time) string { return m.Add(d).UTC().Format(http.TimeFormat) }
					}
					before, same, after := date(-time.Second), date(0), date(time.Second)
					for what, conditions := range map[string]func(etag string, m time.Time) map[string]string{
						"If-Match":               func(e string, _ time.Time) map[string]string { return map[string]string{"If-Match": e} },
						"If-Match, another":      func(string, time.Time) map[string]string { return map[string]string{"If-Match": `"x"`} },
						"If-None-Match":          func(e string, _ time.Time) map[string]string { return map[string]string{"If-None-Match": e} },
						"If-None-Match, another": func(string, time.Time) map[string]string { return map[string]string{"If-None-Match": `"x"`} },
						"If-Modified-Since before": func(_ string, m time.Time) map[string]string {
							return map[string]string{"If-Modified-Since": before(m)}
						},
						"If-Modified-Since then": func(_ string, m time.Time) map[string]string { return map[string]string{"If-Modified-Since": same(m)} },
						"If-Unmodified-Since before": func(_ string, m time.Time) map[string]string {
							return map[string]string{"If-Unmodified-Since": before(m)}
						},
						"If-Unmodified-Since then": func(_ string, m time.Time) map[string]string {
							return map[string]string{"If-Unmodified-Since": same(m)}
						},
						"If-Unmodified-Since after": func(_ string, m time.Time) map[string]string {
							return map[string]string{"If-Unmodified-Since": after(m)}
						},
						"If-Match and If-Unmodified-Since": func(e string, m time.Time) map[string]string {
							return map[string]string{"If-Match": e, "If-Unmodified-Since": before(m)}
						},
						"If-None-Match and If-Modified-Since": func(e string, m time.Time) map[string]string {
							return map[string]string{"If-None-Match": `"x"`, "If-Modified-Since": same(m)}
						},
						"a range and If-Match": func(e string, _ time.Time) map[string]string {
							return map[string]string{"If-Match": e, "Range": "bytes=0-0"}
						},
						"a bad range and If-None-Match": func(e string, _ time.Time) map[string]string {
							return map[string]string{"If-None-Match": e, "Range": "bytes=9999999-"}
						},
						"no date": func(string, time.Time) map[string]string { return map[string]string{"If-Modified-Since": "yesterday"} },
					} {
						check(what, Request{}, conditions)
					}
					check("other headers", Request{Query: url.Values{"response-content-type": {"a/b"}, "response-cache-control": {"no-store"}, "response-expires": {"Thu, 01 Dec 1994 16:00:00 GMT"}}}, nil)
				})
			}
		})
	}
}
