package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

// claimOut is a claim as --json prints it.
type claimOut struct {
	Job       string    `json:"job"`
	Slot      string    `json:"slot"`
	Holder    string    `json:"holder"`
	Owner     string    `json:"owner"`
	ClaimedAt time.Time `json:"claimed_at"`
}

// claimedOut also says whether it is the caller's.
type claimedOut struct {
	claimOut
	Claimed bool `json:"claimed"`
}

func newClaim() *cobra.Command {
	var owner, key string
	var asJSON bool
	c := &cobra.Command{
		Use:   "claim JOB SLOT",
		Short: "Claim one scheduled run of a job, so that it runs once",
		Long: `claim gives one slot of a job to the first who asks, in the whole deployment and for
good. Exit code 0: it is yours, run. Exit code 3: somebody else has it, who and
since when stands on standard error; do not run.

` + aboutSlots + `

A job whose name begins with s3:// belongs to that place: claiming it needs the
right lock there. Every other name is shared by all who have the right lock on
anything. The claim stays if the run fails; to run again, claim a slot of another
name. It is kept for 400 days; slots that name an earlier time are refused.`,
		Example: `  s3fence claim nightly-report 1d && ./nightly-report
  s3fence claim s3://data/reports/nightly 2026-05-01T02:00:00Z --json`,
		Args: takes(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			slot, warning, err := slotOf(args[1], time.Now())
			if err != nil {
				return err
			}
			if warning != "" {
				say(c, "warning: %s", warning)
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			ctx := c.Context()
			if key != "" {
				ctx = client.WithIdempotencyKey(ctx, key)
			}
			claim, err := s.Claim(ctx, args[0], slot, owner)
			var e *client.Error
			switch {
			case errors.As(err, &e) && e.Claim != nil && asJSON:
				return errors.Join(printJSON(c, claimedOut{claimOut(*e.Claim), false}), err)
			case (errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrUnknownOutcome)) && key == "":
				return fmt.Errorf("%w\nslot %s of job %s may be claimed by this call all the same; look with: s3fence claims %s", err, slot, args[0], args[0])
			case err != nil:
				return err
			}
			say(c, "slot %s of job %s is yours", claim.Slot, claim.Job)
			if asJSON {
				return printJSON(c, claimedOut{claimOut(claim), true})
			}
			return nil
		},
	}
	c.Flags().StringVar(&owner, "owner", ownerLabel(), "who runs it, for people to read")
	c.Flags().StringVar(&key, "idempotency-key", "", "this caller's own name of this call: with it, calling again gives the first answer")
	jsonFlag(c, &asJSON)
	return c
}

func newClaims() *cobra.Command {
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "claims JOB",
		Short: "List who claimed the slots of a job, the last slots first",
		Example: `  s3fence claims nightly-report
  s3fence claims nightly-report -n 1 --json`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 {
				return usage("-n is %d; it must be 1 or more", limit)
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			all := []claimOut{}
			for after := ""; len(all) < limit; {
				page, next, err := s.Claims(c.Context(), args[0], after, min(limit-len(all), pageSize))
				if err != nil {
					return err
				}
				for _, claim := range page {
					all = append(all, claimOut(claim))
				}
				if after = next; next == "" {
					break
				}
			}
			if asJSON {
				return printJSON(c, all)
			}
			rows := [][]string{{"SLOT", "OWNER", "HOLDER", "CLAIMED"}}
			for _, o := range all {
				rows = append(rows, []string{o.Slot, orDash(o.Owner), o.Holder, o.ClaimedAt.Local().Format(time.DateTime)})
			}
			return table(c.OutOrStdout(), rows)
		},
	}
	c.Flags().IntVarP(&limit, "number", "n", 20, "how many to list")
	jsonFlag(c, &asJSON)
	return c
}
