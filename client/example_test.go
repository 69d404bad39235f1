package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/s3fence/s3fence/client"
)

// stand is where the examples' lock service listens: in this process, and it
// grants token 7 to whoever asks.
func stand() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/credentials"):
			_, _ = fmt.Fprint(w, `{"AccessKeyId":"fenced","SecretAccessKey":"secret","SessionToken":"sealed","Expiration":"2100-01-01T00:00:00Z"}`)
		default:
			_, _ = fmt.Fprint(w, `{"scope":"s3://data/jobs/nightly/","token":7,"owner":"ann@host","ttl":"30s","expires_in_ms":30000,"settled":true}`)
		}
	}))
}

// A job that works under a lock, and stops when it is lost.
func ExampleClient_Hold() {
	service := stand()
	defer service.Close()
	c, err := client.New(service.URL, "s3fence-dev", "s3fence-dev-secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	job := func(ctx context.Context) (err error) {
		held, err := c.Hold(ctx, "s3://data/jobs/nightly/",
			client.WithOwner("ann@host"),
			client.WithWait(time.Minute),
			client.WithObserver(func(e client.HoldEvent) {
				if e.Kind == client.HoldRetrying {
					log.Printf("a renewal failed, %v are left: %v", e.Left, e.Err)
				}
			}))
		if errors.Is(err, client.ErrHeld) {
			return nil // somebody else does it
		}
		if err != nil {
			return err
		}
		// After the work, whatever became of ctx. What was lost is told here too.
		defer func() { err = errors.Join(err, held.Release(ctx)) }()
		fmt.Println("working under token", held.Token())
		for step := 1; step <= 2; step++ {
			if held.Context().Err() != nil {
				return context.Cause(held.Context())
			}
			fmt.Println("step", step)
		}
		return nil
	}
	if err := job(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	// Output:
	// working under token 7
	// step 1
	// step 2
}

// Why a hold ended.
func ExampleHoldError() {
	service := stand()
	defer service.Close()
	c, err := client.New(service.URL, "s3fence-dev", "s3fence-dev-secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	held, err := c.Hold(ctx, "s3://data/jobs/nightly/")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := held.Release(ctx); err != nil {
		fmt.Println(err)
		return
	}
	<-held.Context().Done()
	switch cause := context.Cause(held.Context()); {
	case errors.Is(cause, client.ErrLost):
		fmt.Println("somebody else may be at work:", cause)
	case errors.Is(cause, client.ErrMaybeLost):
		fmt.Println("the service does not answer:", cause)
	case errors.Is(cause, client.ErrReleased):
		fmt.Println("done:", cause)
	default:
		fmt.Println("stopped from outside:", cause)
	}
	// Output:
	// done: the lock on s3://data/jobs/nightly/ under token 7: lock released
}

// Credentials for programs and libraries that know nothing of fencing: whatever
// signs with them is fenced.
func ExampleHeld_Credentials() {
	service := stand()
	defer service.Close()
	c, err := client.New(service.URL, "s3fence-dev", "s3fence-dev-secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	held, err := c.Hold(ctx, "s3://data/jobs/nightly/")
	if err != nil {
		fmt.Println(err)
		return
	}
	credentials, err := held.Credentials().Retrieve(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(credentials.AccessKeyID, credentials.SessionToken)
	if err := held.Release(ctx); err != nil {
		fmt.Println(err)
		return
	}
	_, err = held.Credentials().Retrieve(ctx)
	fmt.Println(err)
	// Output:
	// fenced sealed
	// the lock on s3://data/jobs/nightly/ under token 7: lock released
}
