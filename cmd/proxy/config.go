package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig() *cobra.Command {
	return parent(&cobra.Command{
		Use:   "config",
		Short: "Check and print the configuration",
	}, newConfigCheck(), newConfigPrint())
}

func newConfigCheck() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "check",
		Short:   "Report everything that is wrong with the configuration",
		Long:    "check reads file and environment as serve does and reports all that is wrong,\nwith key and line. It connects to nothing.",
		Example: "  s3fence config check --config s3fence.yaml",
		Args:    takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := load(file); err != nil {
				return err
			}
			_, _ = fmt.Fprintln(c.ErrOrStderr(), "the configuration is in order")
			return nil
		},
	}
	configFlag(c, &file)
	return c
}

func newConfigPrint() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:     "print",
		Short:   "Print every setting in force, and where it comes from",
		Long:    "print shows all settings with defaults filled in, each with file and line,\nvariable, or default as its origin. Secrets are not shown.",
		Example: "  s3fence config print --config s3fence.yaml | grep state",
		Args:    takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, cfg.Entries())
			}
			return cfg.Redacted(c.OutOrStdout())
		},
	}
	configFlag(c, &file)
	jsonFlag(c, &asJSON)
	return c
}
