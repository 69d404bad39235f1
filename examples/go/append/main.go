// Command append adds its input to a report. It holds the lock while it works,
// and stops when the lock is lost. Run it as
//
//	date | go run ./examples/go/append
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3fence/s3fence/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := underLock(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func underLock(ctx context.Context) (err error) {
	locks, err := client.New(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"))
	if err != nil {
		return err
	}
	held, err := locks.Hold(ctx, "s3://demo/jobs/", client.WithOwner("append"), client.WithWait(time.Minute))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Release(ctx)) }()

	// Every request made with these credentials carries the token of the lock.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithCredentialsProvider(held.Credentials()))
	if err != nil {
		return err
	}
	store := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if err := add(held.Context(), store); err != nil {
		// Where the lock was lost the context says so, and ended the work; what was
		// under way was refused: StaleFencingToken.
		return errors.Join(err, context.Cause(held.Context()))
	}
	return nil
}

func add(ctx context.Context, store *s3.Client) error {
	bucket, key := aws.String("demo"), aws.String("jobs/report")
	var text []byte
	got, err := store.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err == nil {
		text, err = io.ReadAll(got.Body)
		got.Body.Close()
	}
	var absent *types.NoSuchKey
	if err != nil && !errors.As(err, &absent) {
		return err
	}
	fmt.Printf("the report has %d lines\n", bytes.Count(text, []byte("\n")))
	more, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	text = append(text, more...)
	if _, err := store.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(text)}); err != nil {
		return err
	}
	fmt.Printf("and now %d\n", bytes.Count(text, []byte("\n")))
	return nil
}
