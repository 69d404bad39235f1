package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/client/awss3"
	"github.com/s3fence/s3fence/internal/testserver"
)

// holderPrefix in the environment makes this test program a holder of a lock,
// to be frozen and woken: see holder.
const holderPrefix = "S3FENCE_TEST_HOLDER_PREFIX"

// Holder is a program that holds a lock.
type Holder struct {
	process *testserver.Process
	log     string
}

// StartHolder starts a program that holds the lock of a scope in the cluster's
// bucket for three seconds at a time.
func (p *Proxy) StartHolder(t *testing.T, prefix string) *Holder {
	t.Helper()
	folder := serverFolder(t, "holder")
	self, err := os.Executable()
	require.NoError(t, err)
	env := p.clientEnv()
	env[holderPrefix], env["S3FENCE_TEST_BUCKET"] = prefix, p.cluster.Bucket
	h := &Holder{log: filepath.Join(folder, "log")}
	h.process, err = testserver.Launch(testserver.Spec{Name: "holder", Path: self, Env: environment(folder, env), Dir: folder, Log: h.log})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the holder said:\n%s", strings.Join(h.lines(), "\n"))
		}
		if err := h.process.Kill(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *Holder) lines() []string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// Await waits for a line that begins with these words and returns the rest.
func (h *Holder) Await(t *testing.T, words string) string {
	t.Helper()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(5 * time.Millisecond) {
		for _, line := range h.lines() {
			if rest, ok := strings.CutPrefix(line, words+" "); ok {
				return rest
			}
		}
		if !h.process.Alive() || time.Now().After(deadline) {
			t.Fatalf("the holder did not say %q (alive: %v)", words, h.process.Alive())
		}
	}
}

// holder is the program: it takes the lock, sends half of two writes, by fenced
// credentials and stamped, and goes on with them when its Context has ended. It
// says what it sees, one line each:
//
//	renewed …          the observer was told so
//	held TOKEN         and both writes have begun
//	ended KIND CAUSE   the Context has ended: lost or maybe-lost
//	NAME STATUS CODE   what a write was answered
//	refused NAME CAUSE a write that was begun after the end
//	forgetful CAUSE    one that carries the token whatever the hold says
//	released CAUSE
func holder() error {
	bucket, prefix := os.Getenv("S3FENCE_TEST_BUCKET"), os.Getenv(holderPrefix)
	key, secret, endpoint := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("S3FENCE_ENDPOINT")
	ctx, cancel := context.WithTimeout(context.Background(), commandWait)
	defer cancel()
	var writing sync.Mutex
	say := func(format string, args ...any) {
		writing.Lock()
		defer writing.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	c, err := client.New(endpoint, key, secret)
	if err != nil {
		return err
	}
	held, err := c.Hold(ctx, "s3://"+bucket+"/"+prefix, client.WithTTL(3*time.Second), client.WithOwner("frozen@host"),
		client.WithObserver(func(e client.HoldEvent) { say("%v %v", e.Kind, e.Err) }))
	if err != nil {
		return err
	}
	own := s3.New(s3.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: awscredentials.NewStaticCredentialsProvider(key, secret, ""),
	})
	put := func(name string) *s3.PutObjectInput {
		return &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(prefix + name), Body: strings.NewReader("late")}
	}
	var writes sync.WaitGroup
	begun := make(chan error, 2)
	begin := func(name, link string) {
		body, feed := io.Pipe()
		const half = 100_000
		writes.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, link, body)
			if err != nil {
				begun <- err
				return
			}
			req.ContentLength = 2 * half
			resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
			if err != nil {
				say("%s 0 %v", name, err)
				return
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			say("%s %d %s %v", name, resp.StatusCode, Answer{Body: string(text)}.Failure().Code, err)
		})
		writes.Go(func() {
			_, err := feed.Write([]byte(strings.Repeat("x", half)))
			begun <- err
			<-held.Context().Done()
			_, _ = feed.Write([]byte(strings.Repeat("y", half)))
			_ = feed.Close()
		})
	}
	// Signed before the end and sent past it; of a length that is not signed.
	for name, client := range map[string]*s3.Client{"credentials": awss3.New(held), "stamped": s3.New(own.Options(), awss3.Stamp(held))} {
		signed, err := s3.NewPresignClient(client).PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(prefix + name)})
		if err != nil {
			return err
		}
		begin(name, signed.URL)
	}
	for range 2 {
		if err := <-begun; err != nil {
			return err
		}
	}
	say("held %d", held.Token())
	<-held.Context().Done()
	cause, kind := context.Cause(held.Context()), "other"
	switch {
	case errors.Is(cause, client.ErrLost):
		kind = "lost"
	case errors.Is(cause, client.ErrMaybeLost):
		kind = "maybe-lost"
	}
	say("ended %s %v", kind, cause)
	writes.Wait()
	_, err = awss3.New(held).PutObject(ctx, put("refused"))
	say("refused credentials %v", err)
	_, err = own.PutObject(ctx, put("refused"), awss3.Stamp(held))
	say("refused stamped %v", err)
	_, err = own.PutObject(ctx, put("forgetful"), TokenHeader(held.Token()))
	say("forgetful %v", err)
	say("released %v", held.Release(ctx))
	return nil
}
