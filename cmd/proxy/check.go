package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

func newCheck() *cobra.Command {
	var token string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check [SCOPE]",
		Short: "Ask whether a token is still the highest of its scope",
		Long: `check compares a fencing token with the mark of its scope, for work on resources
that are not S3. Exit code 0: nobody was granted a higher one. Exit code 4: it is
stale, stop.

The answer is advice: it was true when it was given, and the lock may be lost before
the next line of a script runs. Ask right before each step that cannot be undone, so
that a holder which was asleep for an hour stops there. A resource that can compare
should do so itself: keep the token with it, and refuse a lower one in the same step
as the change.`,
		Example: `  s3fence check s3://data/jobs/nightly/ --token $TOKEN && ./send-invoices`,
		Args:    takes(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			scope := cmp.Or(first(args), os.Getenv("S3FENCE_SCOPE"))
			if scope == "" {
				return usage("no scope is named: give one, or set S3FENCE_SCOPE")
			}
			n, err := tokenOf(token)
			if err != nil {
				return err
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			highest, err := s.Check(c.Context(), scope, n)
			if e, ok := errors.AsType[*client.Error](err); ok && asJSON && errors.Is(err, client.ErrStale) {
				return errors.Join(err, printJSON(c, checkOut{scope, n, e.Highest, true}))
			}
			if err != nil {
				return err
			}
			say(c, "token %d is the highest of %s", n, scope)
			if asJSON {
				return printJSON(c, checkOut{scope, n, highest, false})
			}
			return nil
		},
	}
	c.Flags().StringVar(&token, "token", "", "the token that acquire printed (default $S3FENCE_TOKEN)")
	jsonFlag(c, &asJSON)
	return c
}

type checkOut struct {
	Scope   string `json:"scope"`
	Token   int64  `json:"token"`
	Highest int64  `json:"highest"`
	Stale   bool   `json:"stale"`
}
