package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

func newScope() *cobra.Command {
	return parent(&cobra.Command{
		Use:   "scope",
		Short: "Look at scopes and raise their marks",
		Long: `The mark of a scope is the highest token that was granted or admitted there. It
never falls; writes under a lower token are refused.`,
	}, newScopeList(), newScopeShow(), newScopeRaise())
}

// scopeOut is a scope as --json prints it.
type scopeOut struct {
	Scope      string     `json:"scope"`
	Mark       int64      `json:"mark"`
	Generation int64      `json:"generation"`
	LastOwner  string     `json:"last_owner,omitempty"`
	LastAt     time.Time  `json:"last_at,omitzero"`
	Holder     *holderOut `json:"holder,omitempty"`
	DelayMS    int64      `json:"delay_ms,omitempty"`
	Queue      int        `json:"queue"`
	// Waiters are the first of the queue.
	Waiters []waiterOut `json:"waiters,omitempty"`
}

type holderOut struct {
	AccessKey string    `json:"access_key"`
	Owner     string    `json:"owner"`
	Token     int64     `json:"token"`
	GrantedAt time.Time `json:"granted_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// ExpiresInMS is what is left unless it is renewed, by the service's clock.
	ExpiresInMS int64 `json:"expires_in_ms"`
}

func scopesOut(list []client.Scope) []scopeOut {
	out := make([]scopeOut, 0, len(list))
	for _, s := range list {
		o := scopeOut{s.Scope, s.Mark, s.Generation, s.LastOwner, s.LastAt, nil, s.Delay.Milliseconds(), s.Queue, waitersOut(s.Waiters)}
		if h := s.Holder; h != nil {
			o.Holder = &holderOut{h.AccessKey, h.Owner, h.Token, h.GrantedAt, h.ExpiresAt, h.ExpiresIn.Milliseconds()}
		}
		out = append(out, o)
	}
	return out
}

func newScopeList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "List scopes with their marks",
		Example: "  s3fence scope list s3://data/tenants/",
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
			if asJSON {
				return printJSON(c, scopesOut(all))
			}
			rows := [][]string{{"SCOPE", "MARK", "HELD BY", "LAST GRANT"}}
			for _, sc := range all {
				held, last := "-", "-"
				if sc.Holder != nil {
					held = orDash(sc.Holder.Owner)
				}
				if !sc.LastAt.IsZero() {
					last = sc.LastAt.Local().Format(time.DateTime)
				}
				rows = append(rows, []string{sc.Scope, markText(sc), held, last})
			}
			return table(c.OutOrStdout(), rows)
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

// markText names the generation where it is not the first.
func markText(s client.Scope) string {
	if s.Generation > 1 {
		return fmt.Sprintf("%d (generation %d)", s.Mark, s.Generation)
	}
	return number(s.Mark)
}

func newScopeShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "show SCOPE",
		Short:   "Show one scope",
		Example: "  s3fence scope show s3://data/jobs/nightly/",
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
			if len(page) == 0 || page[0].Scope != args[0] {
				return fmt.Errorf("%s has no mark: no token was granted or admitted there yet, or these credentials may not see it", args[0])
			}
			sc := page[0]
			if asJSON {
				return printJSON(c, scopesOut(page)[0])
			}
			rows := [][]string{{"scope", sc.Scope}, {"mark", markText(sc)}}
			if sc.LastOwner != "" {
				rows = append(rows, []string{"last owner", sc.LastOwner})
			}
			if !sc.LastAt.IsZero() {
				rows = append(rows, []string{"last grant", sc.LastAt.Local().Format(time.DateTime)})
			}
			if h := sc.Holder; h != nil {
				rows = append(rows, []string{"held by", fmt.Sprintf("%s (%s), %v left", orDash(h.Owner), h.AccessKey, h.ExpiresIn.Truncate(time.Second))})
			} else if sc.Delay > 0 {
				rows = append(rows, []string{"held by", fmt.Sprintf("nobody, and granted to nobody for %s more: its last lease ran out, and the guard has a lock_delay", seconds(sc.Delay))})
			} else {
				rows = append(rows, []string{"held by", "nobody"})
			}
			return table(c.OutOrStdout(), append(rows, waiterRows(sc)...))
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

func newScopeRaise() *cobra.Command {
	var to int64
	var reason string
	var asJSON bool
	c := &cobra.Command{
		Use:   "raise SCOPE",
		Short: "Raise the mark, ending every lease below it",
		Long: `raise raises the mark of a scope, so that no token granted so far writes there
any more, and prints the new mark. It needs the right admin. The number is chosen
by s3fence; --to names it where tokens come from an external issuer.`,
		Example: `  s3fence scope raise s3://data/jobs/nightly/ --reason "runaway job"
  s3fence scope raise s3://data/ext/ --to 4711`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			mark, err := s.Raise(c.Context(), args[0], to, reason)
			if err != nil {
				return err
			}
			say(c, "tokens of %s below %d are refused", args[0], mark)
			if asJSON {
				return printJSON(c, scopeMark{args[0], mark})
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), mark)
			return err
		},
	}
	c.Flags().Int64Var(&to, "to", 0, "the new mark (external issuers only)")
	c.Flags().StringVar(&reason, "reason", "", "why, for people to read")
	jsonFlag(c, &asJSON)
	return c
}

type scopeMark struct {
	Scope string `json:"scope"`
	Mark  int64  `json:"mark"`
}
