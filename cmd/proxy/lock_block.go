package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/locks"
)

func newLockBlock() *cobra.Command {
	var by, reason string
	var length time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "block SCOPE",
		Short: "Keep everybody out of a scope for a while",
		Long: `block takes the lock of a scope by force and keeps it for --for, so that nobody else
is granted it: a runaway job that has been stopped in its writes does not come back.
Writes of earlier holders are refused from now on. Whoever asks for the lock is told
who blocks it, until when and why, and may wait for it.

It prints the token of the block, under which you may write meanwhile. Blocking again
replaces the block by a new one. lock unblock ends it early. It needs the right admin.

Not kept out is who takes the lock by force, and who writes without a token where the
guard lets them (tokens: optional).`,
		Example: `  s3fence lock block s3://data/jobs/nightly/ --for 1h --reason 'node 7 runs wild'
  s3fence lock unblock s3://data/jobs/nightly/`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case reason == "":
				return usage("blocking a scope needs --reason")
			case length == 0:
				return usage("blocking a scope needs --for, such as --for 1h")
			case length < locks.MinTTL || length > locks.MaxTTL:
				return usage("--for is %v; it must be from %s to %s, the longest lease. Block it again before it ends to go on", length, seconds(locks.MinTTL), seconds(locks.MaxTTL))
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			l, err := s.Take(c.Context(), args[0], blockLabel(by, reason, time.Now().Add(length)), length, reason)
			if err != nil {
				return err
			}
			say(c, "%s is blocked for %s: nobody else gets the lock, and tokens below %d are refused. End it early: s3fence lock unblock %s", l.Scope, seconds(l.TTL), l.Token, l.Scope)
			return printLease(c, l, asJSON)
		},
	}
	c.Flags().DurationVar(&length, "for", 0, "how long, up to 24h (required)")
	c.Flags().StringVar(&reason, "reason", "", "why, for people to read (required)")
	c.Flags().StringVar(&by, "owner", ownerLabel(), "who blocks it, for people to read")
	jsonFlag(c, &asJSON)
	return c
}

func newLockUnblock() *cobra.Command {
	var asJSON bool
	free := func(c *cobra.Command, scope, how string) error {
		say(c, how, scope)
		if asJSON {
			return printJSON(c, unblockOut{scope, false})
		}
		return nil
	}
	c := &cobra.Command{
		Use:   "unblock SCOPE",
		Short: "End a block early",
		Long: `unblock ends the block of a scope, so that its lock can be had again. Tokens from
before the block stay stale. It leaves a lock alone that is held for work. Exit code
0 says that no block is in force any more.`,
		Example: `  s3fence lock unblock s3://data/jobs/nightly/`,
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			// Of all names that begin with this one it is the first.
			page, _, err := s.List(c.Context(), args[0], "", 1)
			if err != nil {
				return err
			}
			none := len(page) == 0 || page[0].Scope != args[0]
			if none {
				// Never locked, no scope at all, or not for us to see.
				if err := isScope(c.Context(), s, args[0]); err != nil {
					return err
				}
			}
			if none || page[0].Holder == nil {
				return free(c, args[0], "%s is not blocked")
			}
			h := page[0].Holder
			if !strings.HasPrefix(h.Owner, locks.BlockLabel) {
				return fmt.Errorf("%s is not blocked: it is held by %s (%s) under token %d", args[0], orDash(h.Owner), h.AccessKey, h.Token)
			}
			err = s.Release(c.Context(), args[0], h.Token)
			if e, ok := errors.AsType[*client.Error](err); ok && e.Code == "OtherHolder" {
				return fmt.Errorf("%s was blocked with another access key, %s, which alone may end the block so. With the right admin: s3fence scope raise %s --reason …", args[0], h.AccessKey, args[0])
			}
			if err != nil {
				return err
			}
			return free(c, args[0], "%s is not blocked any more")
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

type unblockOut struct {
	Scope   string `json:"scope"`
	Blocked bool   `json:"blocked"`
}

// isScope fails unless a name is a scope that the caller may see.
func isScope(ctx context.Context, s *client.Client, scope string) error {
	_, err := s.Check(ctx, scope, 1)
	if e, ok := errors.AsType[*client.Error](err); ok && (e.Code == "InvalidFencingToken" || e.Code == "StaleFencingToken") {
		return nil // the answer of one
	}
	return err
}

// blockLabel is the owner label of a block: what people read who ask for the lock. It
// is cut to what a label may have.
func blockLabel(by, reason string, until time.Time) string {
	label := fmt.Sprintf("%s%s until %s (%s)", locks.BlockLabel, by, until.UTC().Format("2006-01-02 15:04 MST"), reason)
	label = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(label, "?"))
	const mark = "…)"
	if len(label) <= locks.MaxOwner {
		return label
	}
	cut := locks.MaxOwner - len(mark)
	for !utf8.RuneStart(label[cut]) {
		cut--
	}
	return label[:cut] + mark
}
