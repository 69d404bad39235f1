// Package worker is what the wrong and the right leader share: a worker that
// stands for election again and again, a client of the store, and the planted
// delay.
package worker

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3fence/s3fence/client"
)

// Main leads whenever it can, under the name that the command line has, until it
// is told to end.
func Main(lead func(ctx context.Context, locks *client.Client, bucket, name string) error) {
	locks, err := client.New(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"))
	if err != nil || len(os.Args) != 2 {
		log.Fatalf("usage: BUCKET=… %s NAME (%v)", os.Args[0], err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	for ctx.Err() == nil {
		if err := lead(ctx, locks, os.Getenv("BUCKET"), os.Args[1]); err != nil {
			log.Print(err) // lost, or nobody there to ask: once more, from the beginning
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// Say tells what happened in which term, and when.
func Say(what string, term int64) {
	fmt.Println(what, term, time.Now().UnixNano())
}

// Store is a client of the store.
type Store struct{ s3 *s3.Client }

// NewStore makes a store with these credentials; nil stands for the
// environment's.
func NewStore(ctx context.Context, credentials aws.CredentialsProvider) (*Store, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.HTTPClient == nil { // the configuration makes one only where it has to, as for AWS_CA_BUNDLE
		cfg.HTTPClient = awshttp.NewBuildableClient()
	}
	cfg.HTTPClient = slow{cfg.HTTPClient}
	if credentials != nil {
		cfg.Credentials = credentials
	}
	return &Store{s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}, nil
}

// Write overwrites bucket/key, and says when it began and that it was accepted.
func (s *Store) Write(ctx context.Context, term int64, place, text string) error {
	bucket, key, _ := strings.Cut(place, "/")
	Say("writes", term)
	_, err := s.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(text)})
	if err == nil {
		Say("wrote", term)
	}
	return err
}

// slow is the planted delay. While the file that PAUSE names exists, a write
// stands still where no check can come after any more: signed, and just not sent.
// In production this is a stopped process, a suspended machine, a full buffer.
type slow struct{ aws.HTTPClient }

func (s slow) Do(r *http.Request) (*http.Response, error) {
	if file := os.Getenv("PAUSE"); file != "" && r.Method == http.MethodPut && exists(file) {
		if err := os.WriteFile(file+".reached", nil, 0o600); err != nil {
			return nil, err
		}
		for exists(file) {
			time.Sleep(time.Millisecond)
		}
	}
	return s.HTTPClient.Do(r)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
