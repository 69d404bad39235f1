package awss3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/client/awss3"
)

// stand answers as a proxy would: it grants token 7 to whoever asks, and takes
// what is signed with fenced credentials.
func stand() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/credentials"):
			_, _ = fmt.Fprint(w, `{"AccessKeyId":"fenced","SecretAccessKey":"secret","SessionToken":"sealed","Expiration":"2100-01-01T00:00:00Z"}`)
		case strings.HasPrefix(r.URL.Path, "/-/v1/"):
			_, _ = fmt.Fprint(w, `{"scope":"s3://demo/jobs/","token":7,"owner":"ann@host","ttl":"30s","expires_in_ms":30000,"settled":true}`)
		case r.Header.Get("X-Amz-Security-Token") != "sealed":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.Header().Set("ETag", `"etag"`)
		}
	}))
}

// A write under a lock. Nothing but the client is special about it.
func ExampleNew() {
	proxy := stand() // else http://127.0.0.1:9000
	defer proxy.Close()
	c, err := client.New(proxy.URL, "s3fence-dev", "s3fence-dev-secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	held, err := c.Hold(ctx, "s3://demo/jobs/", client.WithOwner("ann@host"), client.WithWait(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = held.Release(ctx) }()

	_, err = awss3.New(held).PutObject(held.Context(), &s3.PutObjectInput{
		Bucket: aws.String("demo"), Key: aws.String("jobs/report"), Body: strings.NewReader("done"),
	})
	var refused smithy.APIError
	switch {
	case errors.Is(err, client.ErrLost), errors.Is(err, client.ErrMaybeLost):
		log.Print("not sent: ", err)
	case errors.As(err, &refused) && refused.ErrorCode() == "StaleFencingToken":
		log.Print("sent too late, and refused: ", refused.ErrorMessage())
	case err != nil:
		log.Print(err)
	default:
		fmt.Println("written under token", held.Token())
	}
	// Output:
	// written under token 7
}

// Stamping the requests of a client that has credentials of its own.
func ExampleStamp() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := client.New("http://127.0.0.1:9000", "s3fence-dev", "s3fence-dev-secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	held, err := c.Hold(ctx, "s3://demo/jobs/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = held.Release(ctx) }()

	fenced := s3.NewFromConfig(cfg, awss3.Stamp(held), func(o *s3.Options) {
		o.BaseEndpoint = aws.String(c.Endpoint())
		o.UsePathStyle = true
	})
	// In the scope: fenced. Elsewhere: as without a lock.
	for _, key := range []string{"jobs/report", "other/report"} {
		if _, err := fenced.DeleteObject(held.Context(), &s3.DeleteObjectInput{Bucket: aws.String("demo"), Key: &key}); err != nil {
			log.Print(err)
		}
	}
}
