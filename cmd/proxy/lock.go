package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

func newLock() *cobra.Command {
	return parent(&cobra.Command{
		Use:   "lock",
		Short: "Take, renew and release locks",
		Long: `A lock is held for a scope, a directory under a guard such as s3://data/jobs/.
Taking it yields a fencing token, larger than any before; writes carry it in
fenced credentials, as X-Fencing-Token or as metadata fencing-token.`,
	}, newLockAcquire(), newLockRenew(), newLockRelease(), newLockTake(), newLockList(), newLockRun(), newLockBlock(), newLockUnblock())
}

// leaseOut is a lease as --json prints it.
type leaseOut struct {
	Scope     string    `json:"scope"`
	Token     int64     `json:"token"`
	Owner     string    `json:"owner"`
	TTL       string    `json:"ttl"`
	ExpiresAt time.Time `json:"expires_at"`
	// ExpiresInMS is counted from before the service was asked.
	ExpiresInMS int64 `json:"expires_in_ms"`
	Settled     bool  `json:"settled"`
}

func printLease(c *cobra.Command, l client.Lease, asJSON bool) error {
	if asJSON {
		return printJSON(c, leaseOut{l.Scope, l.Token, l.Owner, l.TTL.String(), l.ExpiresAt, time.Until(l.Deadline).Milliseconds(), l.Settled})
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), l.Token)
	return err
}

// scopeRef names the scope of a lease as requests with its token must.
func scopeRef(l client.Lease) string {
	if l.Generation > 1 {
		return fmt.Sprintf("%s?generation=%d", l.Scope, l.Generation)
	}
	return l.Scope
}

// giveBackTime bounds the release of a lock that could not be handed over.
const giveBackTime = 10 * time.Second

func newLockAcquire() *cobra.Command {
	var a client.Acquisition
	var asJSON, asEnv bool
	c := &cobra.Command{
		Use:   "acquire SCOPE",
		Short: "Take a lock and print its fencing token",
		Long: `acquire takes the lock of a scope and prints the token, alone, on standard
output. A lock that somebody else holds ends with exit code 3, after --wait. Those
who wait are served in the order in which they came, and told how they stand. The
lock is free again after --ttl unless it is renewed.

With --env it prints, for a shell to evaluate, what makes every request of the aws
CLI, the SDKs, rclone and mc carry the token: fenced credentials, endpoint, region,
S3FENCE_SCOPE and S3FENCE_TOKEN.`,
		Example: `  TOKEN=$(s3fence lock acquire s3://data/jobs/nightly/ --ttl 5m --wait 1m)
  aws s3 cp report.csv s3://data/jobs/nightly/ --metadata fencing-token=$TOKEN

  ENV=$(s3fence lock acquire s3://data/jobs/nightly/ --ttl 5m --env) && eval "$ENV"
  aws s3 sync reports s3://data/jobs/nightly/ --delete`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if asJSON && asEnv {
				return usage("--json and --env exclude each other")
			}
			s, err := remoteAs(c.Context(), "")
			if err != nil {
				return err
			}
			a.Scope, a.Watch = args[0], sayWaiting(c)
			l, err := s.Acquire(c.Context(), a)
			if err != nil {
				return err
			}
			if asEnv {
				if err := s.printEnv(c, scopeRef(l), l.Token); err != nil {
					// Nobody would know of the lock.
					ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), giveBackTime)
					defer cancel()
					return errors.Join(err, s.Release(ctx, l.Scope, l.Token))
				}
			}
			say(c, "%s is yours under token %d for %v", l.Scope, l.Token, l.TTL)
			if asEnv {
				return nil
			}
			return printLease(c, l, asJSON)
		},
	}
	c.Flags().StringVar(&a.Owner, "owner", ownerLabel(), "who holds it, for people to read")
	c.Flags().DurationVar(&a.TTL, "ttl", 0, "length of the lease, 1s to 24h (default 30s)")
	c.Flags().DurationVar(&a.Wait, "wait", 0, "how long to wait while somebody else holds it")
	c.Flags().BoolVar(&asEnv, "env", false, "print export lines with fenced credentials")
	jsonFlag(c, &asJSON)
	return c
}

func newLockRenew() *cobra.Command {
	var token string
	var ttl time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "renew SCOPE",
		Short: "Extend a lease",
		Long: `renew extends the lease of a lock. Exit code 4 says that the lock is lost: stop
working, take it again.`,
		Example: `  s3fence lock renew s3://data/jobs/nightly/ --token $TOKEN`,
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := tokenOf(token)
			if err != nil {
				return err
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			l, err := s.Renew(c.Context(), args[0], n, ttl)
			if err != nil {
				return err
			}
			say(c, "%s is yours under token %d for %v more", l.Scope, l.Token, l.TTL)
			return printLease(c, l, asJSON)
		},
	}
	c.Flags().StringVar(&token, "token", "", "the token that acquire printed (default $S3FENCE_TOKEN)")
	c.Flags().DurationVar(&ttl, "ttl", 0, "length of the lease from now (default: as it was)")
	jsonFlag(c, &asJSON)
	return c
}

func newLockRelease() *cobra.Command {
	var token string
	var asJSON bool
	c := &cobra.Command{
		Use:   "release SCOPE",
		Short: "Give a lock back",
		Long: `release ends the lease, so that the next one need not wait for its end. The mark
stays: tokens of earlier holders stay stale. Exit code 4: somebody else was
granted the lock since.`,
		Example: `  s3fence lock release s3://data/jobs/nightly/ --token $TOKEN`,
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := tokenOf(token)
			if err != nil {
				return err
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			if err := s.Release(c.Context(), args[0], n); err != nil {
				return err
			}
			say(c, "%s is free", args[0])
			if asJSON {
				return printJSON(c, releaseOut{args[0], n, true})
			}
			return nil
		},
	}
	c.Flags().StringVar(&token, "token", "", "the token that acquire printed (default $S3FENCE_TOKEN)")
	jsonFlag(c, &asJSON)
	return c
}

type releaseOut struct {
	Scope    string `json:"scope"`
	Token    int64  `json:"token"`
	Released bool   `json:"released"`
}

func newLockTake() *cobra.Command {
	var owner, reason string
	var ttl time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "take SCOPE",
		Short: "Take a lock by force, whoever holds it",
		Long: `take takes the lock without waiting for its holder, whose writes are refused from
then on, and prints the new token. It needs the right admin, and is recorded with
its reason.`,
		Example: `  s3fence lock take s3://data/jobs/nightly/ --reason "host is gone"`,
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if reason == "" {
				return usage("taking a lock by force needs --reason")
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			l, err := s.Take(c.Context(), args[0], owner, ttl, reason)
			if err != nil {
				return err
			}
			say(c, "%s is yours under token %d for %v; tokens below are refused", l.Scope, l.Token, l.TTL)
			return printLease(c, l, asJSON)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for people to read (required)")
	c.Flags().StringVar(&owner, "owner", ownerLabel(), "who holds it, for people to read")
	c.Flags().DurationVar(&ttl, "ttl", 0, "length of the lease, 1s to 24h (default 30s)")
	jsonFlag(c, &asJSON)
	return c
}

func newLockList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "List the locks that are held",
		Example: "  s3fence lock list s3://data/",
		Args:    takes(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			all, err := scopesUnder(c.Context(), s, first(args))
			if err != nil {
				return err
			}
			held := all[:0]
			for _, sc := range all {
				if sc.Holder != nil {
					held = append(held, sc)
				}
			}
			if asJSON {
				return printJSON(c, scopesOut(held))
			}
			rows := [][]string{{"SCOPE", "TOKEN", "OWNER", "HOLDER", "LEFT", "WAITING", "NEXT"}}
			for _, sc := range held {
				h := sc.Holder
				rows = append(rows, []string{sc.Scope, number(h.Token), orDash(h.Owner), h.AccessKey, h.ExpiresIn.Truncate(time.Second).String(), number(int64(sc.Queue)), nextInLine(sc)})
			}
			return table(c.OutOrStdout(), rows)
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
