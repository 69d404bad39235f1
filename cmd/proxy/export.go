package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

func newExport() *cobra.Command {
	var e client.Export
	var asJSON bool
	c := &cobra.Command{
		Use:   "export PATTERN",
		Short: "Write the objects of a guard back under their plain keys",
		Long: `export writes every object of a guard back under its own key in the store, with
its metadata and tags, and compares what stands there then. Writers go on meanwhile,
and the guard stays. It can be repeated, and goes on where it was cut off.

With --remove-guard it also leaves: plain keys of no object are deleted, writers wait
while what they changed last is written back, and the guard is gone. From then on
the plain keys are the objects, with or without s3fence. Take the guard out of the
configuration first, or the next start of a proxy adds it again.

It needs the right admin on the pattern, and a store that refuses requests after they
expired, which is tried. docs/operations.md, "Moving out", has the steps.`,
		Example: `  s3fence export s3://data/jobs/
  s3fence export --remove-guard 's3://data/tenants/*/'`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := remote(c.Context())
			if err != nil {
				return err
			}
			e.Pattern = args[0]
			done, err := s.Export(c.Context(), e, tellProgress(c))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, done)
			}
			tellExported(c, done)
			return nil
		},
	}
	c.Flags().BoolVar(&e.RemoveGuard, "remove-guard", false, "take the guard out of force at the end")
	c.Flags().BoolVar(&e.AcceptLoss, "accept-loss", false, "go on where the store does not keep all attributes of an object")
	jsonFlag(c, &asJSON)
	return c
}

// steps are what people read of a step.
var steps = map[string]string{
	"checking": "asking what the store does",
	"copying":  "writing objects back",
	"settling": "waiting until nothing old can reach the plain keys; writers go on",
	"closed":   "the last pass; writers wait",
	"tidying":  "the guard is gone; forgetting its objects",
}

// tellProgress says each step, and how far it is where that has changed.
func tellProgress(c *cobra.Command) func(client.ExportProgress) {
	var last client.ExportProgress
	return func(p client.ExportProgress) {
		if p == last {
			return
		}
		last = p
		what, known := steps[p.Step]
		if !known {
			what = p.Step
		}
		if p.Of > 0 {
			what += fmt.Sprintf(": %d of %d", p.Done, p.Of)
		}
		say(c, "%s", what)
	}
}

// named bounds the objects that people are shown of each sort.
const named = 10

func tellExported(c *cobra.Command, e client.Exported) {
	tell := func(all int, what string, some []client.Difference) {
		if all == 0 {
			return
		}
		say(c, "%d objects %s:", all, what)
		for _, d := range some[:min(len(some), named)] {
			say(c, "  %s: %s", d.Key, d.What)
		}
		if all > named {
			say(c, "  … (--json has more)")
		}
	}
	tell(e.RetaggedObjects, "have another ETag under their plain key", e.Retagged)
	tell(e.LostObjects, "lack what the store does not keep", e.Lost)
	if e.Leftover > 0 {
		say(c, "%d plain keys belong to no object; --remove-guard deletes them", e.Leftover)
	}
	say(c, "%d objects (%d bytes) stand under their plain keys; %d were copied, %d plain keys deleted", e.Objects, e.Bytes, e.Copied, e.Deleted)
	if e.Removed {
		say(c, "guard %s is removed; writers waited %d ms, for %d changes", e.Pattern, e.ClosedMS, e.Late)
	} else {
		say(c, "guard %s is active as before; s3fence export --remove-guard %s leaves it", e.Pattern, e.Pattern)
	}
}
