package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/pause"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = ""

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Version     string `json:"version"`
				Go          string `json:"go"`
				OS          string `json:"os"`
				Arch        string `json:"arch"`
				PausePoints bool   `json:"pause_points"`
			}{versionOf(), runtime.Version(), runtime.GOOS, runtime.GOARCH, pause.Armed}
			if asJSON {
				return printJSON(c, v)
			}
			armed := ""
			if v.PausePoints {
				armed = " (test build: pause points armed)"
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "s3fence %s %s %s/%s%s\n", v.Version, v.Go, v.OS, v.Arch, armed)
			return err
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

// versionOf falls back to what the go command noted, for go install.
func versionOf() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
