// Command wrong is a worker that leads while it believes to: it looks at its lock,
// and then writes. Run three of it:
//
//	BUCKET=demo go run ./examples/mistakes/leader/wrong ann
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/examples/mistakes/leader/worker"
)

func main() { worker.Main(lead) }

func lead(ctx context.Context, locks *client.Client, bucket, name string) (err error) {
	held, err := locks.Hold(ctx, "s3://"+bucket+"/leader/", client.WithOwner(name), client.WithTTL(2*time.Second), client.WithWait(time.Hour))
	if err != nil {
		return err
	}
	// However it ends: a term that nobody gives back is renewed for as long as the
	// process lives.
	defer func() { err = errors.Join(err, held.Release(ctx)) }()
	term := held.Token()
	worker.Say("leads", term)

	// The worker's own credentials, for a place that no guard covers: nothing ties
	// a write to the term it belongs to.
	store, err := worker.NewStore(ctx, nil)
	if err != nil {
		return err
	}
	for n := 1; held.Context().Err() == nil; n++ { // we lead, …
		// … or led, by the time this arrives.
		if err := store.Write(ctx, term, bucket+"/leader.state", fmt.Sprintf("%d %s %d", term, name, n)); err != nil {
			log.Print(err)
		}
	}
	return nil
}
