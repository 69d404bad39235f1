// Command plant plants the faults of package mutants, those named or all of them,
// and tells of each whether the tests caught it. Exit status 1: not all were.
//
//	plant [NAME]...
//
// It is run from the root of the module, and needs what the tests need: run it under
// internal/pgtest/with, as make mutants does. Where S3FENCE_TEST_RUN names a
// directory, the numbers of faults and of those that were not caught go to the file
// planted in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/s3fence/s3fence/internal/mutants"
)

// atOnce is how many tests run at the same time: they wait more than they compute.
const atOnce = 3

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(names []string, out io.Writer) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, "mutants: "+format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	list, err := mutants.Select(names)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	begin := time.Now()
	var missed []string
	err = mutants.Run(ctx, root, list, atOnce, mutants.Limit, func(v mutants.Verdict) {
		if v.Err != nil {
			missed = append(missed, v.Mutant.Name)
			say("%s (%s) NOT CAUGHT: %v", v.Mutant.Name, v.Mutant.Breaks, v.Err)
			return
		}
		say("%s (%s) caught by %s in %s, %.1f s", v.Mutant.Name, v.Mutant.Breaks, v.Mutant.CaughtBy.Name, v.Mutant.CaughtBy.Package, v.Took.Seconds())
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	caught := len(list) - len(missed)
	say("%d planted, %d caught, %.0f s%s", len(list), caught, time.Since(begin).Seconds(), named(missed))
	if dir := os.Getenv("S3FENCE_TEST_RUN"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "planted"), fmt.Appendf(nil, "%d %d\n", len(list), len(missed)), 0o600); err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		return errors.New("the tests do not notice every planted fault")
	}
	return nil
}

func named(missed []string) string {
	if len(missed) == 0 {
		return ""
	}
	return "; not caught: " + strings.Join(missed, " ")
}
