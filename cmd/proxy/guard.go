package main

import (
	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

func newGuard() *cobra.Command {
	return parent(&cobra.Command{
		Use:   "guard",
		Short: "Say which keys are fenced",
		Long: `A guard makes keys belong to scopes: one scope (s3://data/jobs/nightly/), or with
a * each directory that matches (s3://data/tenants/*/). Guards never overlap.
Changing them needs the right admin.`,
	}, newGuardAdd(), newGuardSet(), newGuardList(), newGuardRemove())
}

func newGuardAdd() *cobra.Command {
	var g client.Guard
	var asJSON bool
	c := &cobra.Command{
		Use:   "add PATTERN",
		Short: "Put a guard into force",
		Long: `add puts a guard into force. It returns when every proxy judges by it and the
objects that were there are taken in, 10,000 at most, which may take minutes.
Adding the same guard again is fine, and goes on where an earlier call was cut
off.`,
		Example: `  s3fence guard add 's3://data/tenants/*/'
  s3fence guard add s3://data/config/ --tokens none
  s3fence guard add s3://data/reports/ --lock-delay 15s
  s3fence guard add s3://data/ext/ --issuer external --max-jump 1000`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			g.Pattern = args[0]
			made, err := s.AddGuard(c.Context(), g)
			if err != nil {
				return err
			}
			say(c, "guard %s is %s", made.Pattern, made.State)
			if asJSON {
				return printJSON(c, made)
			}
			return nil
		},
	}
	c.Flags().StringVar(&g.Writes, "writes", "", "how objects are written: sealed (default sealed)")
	c.Flags().StringVar(&g.Issuer, "issuer", "", "who grants the tokens: s3fence or external (default s3fence)")
	ruleFlags(c, &g)
	jsonFlag(c, &asJSON)
	return c
}

// ruleFlags are those of what can be changed later.
func ruleFlags(c *cobra.Command, g *client.Guard) {
	c.Flags().StringVar(&g.Tokens, "tokens", "", "whether writes carry a token: required, optional or none")
	c.Flags().Int64Var(&g.MaxJump, "max-jump", 0, "how far one request may raise the mark of an external issuer")
	c.Flags().StringVar(&g.LockDelay, "lock-delay", "", "how long nobody is granted a lock after a lease ran out, such as 15s; up to 1h (default 0s)")
}

func newGuardSet() *cobra.Command {
	var g client.Guard
	var asJSON bool
	c := &cobra.Command{
		Use:     "set PATTERN",
		Short:   "Change tokens, max-jump or lock-delay of a guard",
		Example: "  s3fence guard set s3://data/config/ --tokens optional",
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if g.Tokens == "" && g.MaxJump == 0 && g.LockDelay == "" {
				return usage("nothing to change: use --tokens, --max-jump or --lock-delay")
			}
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			g.Pattern = args[0]
			made, err := s.SetGuard(c.Context(), g)
			if err != nil {
				return err
			}
			say(c, "guard %s is changed", made.Pattern)
			if asJSON {
				return printJSON(c, made)
			}
			return nil
		},
	}
	ruleFlags(c, &g)
	jsonFlag(c, &asJSON)
	return c
}

func newGuardList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the guards",
		Example: "  s3fence guard list --json",
		Args:    takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			list, err := s.Guards(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				if list == nil {
					list = []client.Guard{}
				}
				return printJSON(c, list)
			}
			rows := [][]string{{"PATTERN", "STATE", "WRITES", "TOKENS", "ISSUER", "MAX JUMP", "LOCK DELAY"}}
			for _, g := range list {
				jump := "-"
				if g.Issuer == "external" {
					jump = number(g.MaxJump)
				}
				rows = append(rows, []string{g.Pattern, g.State, g.Writes, g.Tokens, g.Issuer, jump, orDash(g.LockDelay)})
			}
			return table(c.OutOrStdout(), rows)
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

func newGuardRemove() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "remove PATTERN",
		Short: "Take a guard out of force",
		Long: `remove takes a guard out of force. It is refused while objects stand under it.
The marks of its scopes stay for ever.`,
		Example: "  s3fence guard remove 's3://data/tenants/*/'",
		Args:    takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			if err := s.RemoveGuard(c.Context(), args[0]); err != nil {
				return err
			}
			say(c, "guard %s is removed", args[0])
			if asJSON {
				return printJSON(c, removedOut{args[0], true})
			}
			return nil
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

type removedOut struct {
	Pattern string `json:"pattern"`
	Removed bool   `json:"removed"`
}
