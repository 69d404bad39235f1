package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/demo"
)

// next is what demo prints last.
var next = []string{
	"Next",
	"  s3fence dev                         a proxy for your clients",
	"  s3fence lock run SCOPE -- COMMAND   any program, under a lock",
	"  https://github.com/s3fence/s3fence  what it does, and how",
}

func newDemo() *cobra.Command {
	o := demo.Options{Next: next}
	var ascii bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch a frozen lock holder destroy data, and then not",
		Long: `demo tells, in about ten seconds and with real processes, why a lock is not
enough. One of two lock holders is frozen (SIGSTOP) for longer than its lease, just
before it writes; the other takes over and writes. First with a lock in Redis and
writes straight to the store: data is lost. Then through s3fence: the late write is
refused. At the end both are drawn to scale, from what was measured.

Nothing needs to be installed and nothing stays: everything runs on loopback, in a
temporary folder. A Redis that REDIS_URL names or that listens on 127.0.0.1:6379 is
used with one random key, which is deleted; else redis-server is started where it is
installed; else a stand-in plays Redis, and the demo says so.

It ends with exit code 1 when either act ends otherwise than told here.`,
		Example: `  s3fence demo
  s3fence demo --redis none --ascii | tee demo.txt`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.TTL < demo.LeastTTL || o.TTL > demo.MostTTL {
				return usage("--ttl %v is not from %v to %v", o.TTL, demo.LeastTTL, demo.MostTTL)
			}
			if c.Flags().Changed("ascii") {
				o.ASCII = &ascii
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			o.Program, o.Arguments, o.Out = program, []string{newDemoWorker().Name()}, c.OutOrStdout()
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().DurationVar(&o.TTL, "ttl", demo.UsualTTL, "length of the leases, "+demo.LeastTTL.String()+" to "+demo.MostTTL.String())
	c.Flags().StringVar(&o.Redis, "redis", "", `URL of a Redis for the first act, or "`+demo.NoRedis+`" for the stand-in (default: look for one)`)
	c.Flags().BoolVar(&ascii, "ascii", false, "draw in ASCII, which is what happens anyway unless the output is a UTF-8 terminal")
	return c
}

func newDemoWorker() *cobra.Command {
	return &cobra.Command{
		Use: "demo-worker", Short: "One of the two processes of demo, which starts it", Hidden: true,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			return demo.Work(c.Context(), c.InOrStdin(), c.OutOrStdout())
		},
	}
}
