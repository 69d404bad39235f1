// Command s3fence is an S3 proxy that refuses stale fencing tokens, and the
// command line of its lock service.
//
// It wires and has no rules: package internal/proxy is the service, package
// client the way to it. Data goes to standard output, everything else to
// standard error; exit codes stand in exit.go.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/pause"
)

// gcPercent: a proxy keeps little and makes much short-lived garbage. Collecting it
// half as often saves processor time for a few MiB. GOGC wins.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, errs io.Writer) int {
	// The first signal ends things in good order, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := pause.Check()
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	// A command that ran under a lock has said itself what was wrong.
	if err != nil && err.Error() != "" {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintln(errs, "s3fence:", line)
		}
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "s3fence",
		Short: "An S3 proxy that refuses writes under stale fencing tokens",
		Long: `s3fence stands in front of an object store and refuses writes of lock holders
that have been replaced: every grant of a lock comes with a number, the fencing
token, and a write under a lower number than the highest granted is refused,
however late it arrives.

See it happen, with nothing else installed:   s3fence demo
Try it with your own clients:                 s3fence dev

Commands that talk to a proxy (lock, claim, check, credentials, guard, export, scope, events)
find it by S3FENCE_ENDPOINT or AWS_ENDPOINT_URL_S3, and sign with the credentials
that the AWS tools would use.

Exit codes: 0 done, 1 error, 2 usage, 3 lock held, wait over or slot claimed, 4 lock
lost or token stale, 5 service unreachable.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%v; see %s --help", err, c.CommandPath())
	})
	parent(root,
		newDev(), newDemo(), newDemoWorker(), newServe(), newMigrate(), newConfig(), newVersion(),
		newLock(), newClaim(), newClaims(), newCheck(), newCredentials(), newGuard(), newExport(), newScope(), newEvents())
	return root
}

// parent makes a command that only has others: alone it prints its help.
func parent(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.AddCommand(children...)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		hint := ""
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "; did you mean " + near[0] + "?"
		}
		return usage("%s has no command %q%s; see %s --help", c.CommandPath(), args[0], hint, c.CommandPath())
	}
	c.SuggestionsMinimumDistance = 2
	return c
}

// takes checks the number of arguments.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usage("%s takes other arguments: %s", c.CommandPath(), c.UseLine())
		}
		return nil
	}
}
