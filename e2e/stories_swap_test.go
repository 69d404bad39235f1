package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Conditions are decided in the transaction that commits the write (F10): of
// any number of writers that name the same state of an object, one wins.
func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, c *Cluster) {
		// A guard without tokens gives compare-and-swap without locks.
		open := c.NewBucket()
		c.Proxies[0].CLI("guard", "add", "s3://"+open+"/cas/", "--tokens", "none").Must(t)
		c.Run(t, "one winner in every round, with a token", func(t *testing.T) {
			token := c.Take("jobs/", "all writers")
			racesStory(t, c, c.Bucket, "jobs/cas-", tokenHeader(token))
		})
		c.Run(t, "one winner in every round, tokens none", func(t *testing.T) {
			racesStory(t, c, open, "cas/x-", nil)
		})
		c.Run(t, "404, 409 and 412", func(t *testing.T) { splitStory(t, c, open) })
		c.Run(t, "tokens none takes no token and no lock", func(t *testing.T) {
			c.Proxies[0].Send(t, Request{Method: "PUT", Bucket: open, Key: "cas/t", Header: tokenHeader(1)}).WantCode(t, 400, "InvalidFencingToken")
			answer := c.Proxies[0].API(t, "POST", "/-/v1/locks/acquire", map[string]any{"scope": "s3://" + open + "/cas/", "owner": "x", "ttl": "10s"})
			if answer.Status != 400 {
				t.Errorf("want 400; %s", answer)
			}
		})
	})
}

const (
	writers = 32
	rounds  = 40
)

// racesStory lets all writers, spread over the proxies, create objects and swap
// one, round after round.
func racesStory(t *testing.T, c *Cluster, bucket, prefix string, header map[string]string) {
	swapped := prefix + "swapped"
	etag := race(t, c, bucket, swapped, "created", with(header, "If-None-Match", "*"))
	for round := range rounds / 2 {
		name := strconv.Itoa(round)
		race(t, c, bucket, prefix+name, "created", with(header, "If-None-Match", "*"))
		etag = race(t, c, bucket, swapped, "round "+name, with(header, "If-Match", etag))
	}
}

// race lets all writers write one object at once, each with a body of its own.
// Exactly one may be told that it won, all others 412, and the object is the
// winner's. It returns the object's ETag.
func race(t *testing.T, c *Cluster, bucket, key, what string, header map[string]string) string {
	t.Helper()
	body := func(writer int) string { return fmt.Sprintf("%s by writer %d", what, writer) }
	answers := make([]Answer, writers)
	var done sync.WaitGroup
	begin := make(chan struct{})
	for i := range writers {
		p := c.Proxies[i%len(c.Proxies)]
		done.Go(func() {
			<-begin
			var err error
			answers[i], err = p.TrySend(t.Context(), Request{Method: "PUT", Bucket: bucket, Key: key, Body: body(i), Header: header})
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	close(begin)
	done.Wait()
	winner := -1
	for i, answer := range answers {
		switch {
		case answer.Status == 200 && winner >= 0:
			t.Fatalf("%s: writers %d and %d both won", what, winner, i)
		case answer.Status == 200:
			winner = i
		default:
			answer.WantCode(t, 412, "PreconditionFailed")
		}
	}
	if winner < 0 {
		t.Fatalf("%s: nobody won", what)
	}
	etag := answers[winner].Header.Get("ETag")
	for _, p := range c.Proxies {
		got := p.Send(t, Request{Method: "GET", Bucket: bucket, Key: key}).Want(t, 200)
		require.Equal(t, body(winner), got.Body)
		require.Equal(t, etag, got.Header.Get("ETag"))
	}
	return etag
}

// splitStory is S3's split of what a false condition means, per operation. See
// "Conditional writes" in the S3 user guide.
func splitStory(t *testing.T, c *Cluster, bucket string) {
	a, b := c.Proxies[0], c.last()
	send := func(p *Proxy, method, key, body string, header ...string) Answer {
		t.Helper()
		return p.Send(t, Request{Method: method, Bucket: bucket, Key: key, Body: body, Header: with(nil, header...)})
	}
	etag := send(a, "PUT", "cas/there", "1").Want(t, 200).Header.Get("ETag")

	send(b, "PUT", "cas/there", "2", "If-None-Match", "*").WantCode(t, 412, "PreconditionFailed")
	send(b, "PUT", "cas/there", "2", "If-Match", `"0123456789abcdef0123456789abcdef"`).WantCode(t, 412, "PreconditionFailed")
	send(b, "PUT", "cas/absent", "2", "If-Match", etag).WantCode(t, 404, "NoSuchKey")
	send(b, "DELETE", "cas/there", "", "If-Match", `"0123456789abcdef0123456789abcdef"`).WantCode(t, 412, "PreconditionFailed")
	assert.Equal(t, "1", send(a, "GET", "cas/there", "").Want(t, 200).Body)

	// Reads.
	send(a, "GET", "cas/there", "", "If-Match", `"no"`).WantCode(t, 412, "PreconditionFailed")
	send(a, "GET", "cas/there", "", "If-None-Match", etag).Want(t, 304)
	send(a, "GET", "cas/there", "", "If-Match", etag).Want(t, 200)
	assert.Equal(t, "1", send(a, "GET", "cas/there", "", "Range", "bytes=0-0").Want(t, 206).Body)
	send(a, "GET", "cas/there", "", "Range", "bytes=5-9").WantCode(t, 416, "InvalidRange")

	// Without quotes, as some clients send it.
	etag = send(b, "PUT", "cas/there", "2", "If-Match", strings.Trim(etag, `"`)).Want(t, 200).Header.Get("ETag")

	// Copies look at their source and at their destination.
	send(a, "PUT", "cas/copy", "", "X-Amz-Copy-Source", bucket+"/cas/there", "X-Amz-Copy-Source-If-Match", `"no"`).WantCode(t, 412, "PreconditionFailed")
	send(a, "PUT", "cas/there", "", "X-Amz-Copy-Source", bucket+"/cas/there", "X-Amz-Metadata-Directive", "REPLACE", "If-None-Match", "*").WantCode(t, 412, "PreconditionFailed")
	send(a, "PUT", "cas/copy", "", "X-Amz-Copy-Source", bucket+"/cas/there", "If-None-Match", "*").Want(t, 200)

	// Completing an upload.
	upload := func(key string, header ...string) Answer {
		t.Helper()
		var begun initiated
		a.Send(t, Request{Method: "POST", Bucket: bucket, Key: key, Query: map[string][]string{"uploads": {""}}}).Want(t, 200).XML(t, &begun)
		query := map[string][]string{"uploadId": {begun.UploadID}}
		part := a.Send(t, Request{Method: "PUT", Bucket: bucket, Key: key, Body: "part", Query: with2(query, "partNumber", "1")}).Want(t, 200).Header.Get("ETag")
		return b.Send(t, Request{Method: "POST", Bucket: bucket, Key: key, Query: query, Header: with(nil, header...),
			Body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + part + "</ETag></Part></CompleteMultipartUpload>"})
	}
	upload("cas/there", "If-None-Match", "*").WantCode(t, 412, "PreconditionFailed")
	upload("cas/there", "If-Match", `"no"`).WantCode(t, 412, "PreconditionFailed")
	upload("cas/absent", "If-Match", etag).WantCode(t, 404, "NoSuchKey")
	upload("cas/there", "If-Match", etag).Want(t, 200)
	upload("cas/assembled", "If-None-Match", "*").Want(t, 200)
	assert.Equal(t, "part", send(b, "GET", "cas/there", "").Want(t, 200).Body)

	etag = send(a, "HEAD", "cas/there", "").Want(t, 200).Header.Get("ETag")
	send(b, "DELETE", "cas/there", "", "If-Match", etag).Want(t, 204)
	send(a, "GET", "cas/there", "").WantCode(t, 404, "NoSuchKey")
	send(a, "DELETE", "cas/there", "").Want(t, 204)
	// Nobody is there to be matched, and nobody was harmed.
	if s := send(a, "DELETE", "cas/there", "", "If-Match", etag); s.Status != 404 && s.Status != 412 {
		t.Errorf("delete of nothing with If-Match: %s", s)
	}
}

func with2(query map[string][]string, name, value string) map[string][]string {
	out := map[string][]string{name: {value}}
	for k, v := range query {
		out[k] = v
	}
	return out
}
