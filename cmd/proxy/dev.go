package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/proxy"
)

func newDev() *cobra.Command {
	var dir, listen string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process, with nothing else installed",
		Long: `dev runs a proxy with an embedded state and an embedded object store, both
durable, in one directory: bucket demo, guard s3://demo/*/, one key with all
rights. It prints what to paste into another terminal. Killing it at any moment
loses nothing that was answered; starting it again in the same directory goes on.`,
		Example: `  s3fence dev
  s3fence dev --dir /tmp/fence --listen 127.0.0.1:9100`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			// Empty would be every address of the machine, for a key that everybody knows.
			if _, port, err := net.SplitHostPort(listen); err != nil || port == "" {
				return usage("--listen %q is not HOST:PORT, such as 127.0.0.1:9000", listen)
			}
			log := proxy.NewLogger(config.Log{Level: "info"}, c.ErrOrStderr())
			p, err := proxy.NewDev(c.Context(), proxy.DevOptions{Dir: dir, Listen: listen, Options: proxy.Options{Logger: log}})
			if err != nil {
				return err
			}
			return serve(c.Context(), p, func() { welcome(c.OutOrStdout(), p.Addr(), dir) })
		},
	}
	c.Flags().StringVar(&dir, "dir", "./s3fence-data", "where state and objects are kept")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:9000", "address of the proxy")
	return c
}

// serve runs a proxy until the context ends, and calls ready once it serves.
func serve(ctx context.Context, p *proxy.Proxy, ready func()) error {
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-p.Serving():
		ready()
	}
	return <-ended
}

// welcome prints the block to paste.
func welcome(w io.Writer, at net.Addr, dir string) {
	me := os.Args[0]
	if strings.ContainsAny(me, " '\"$\\") {
		me = "s3fence"
	}
	_, _ = fmt.Fprintf(w, `s3fence is running; its data is in %[1]s. Ctrl-C stops it.

Paste this into another terminal:

  export AWS_ACCESS_KEY_ID=%[2]s AWS_SECRET_ACCESS_KEY=%[3]s
  export AWS_REGION=%[4]s AWS_DEFAULT_REGION=%[4]s AWS_ENDPOINT_URL_S3=%[5]s

Two holders, one after the other; a write of the newer, a write of the older:

  OLD=$(%[6]s lock acquire s3://demo/jobs/); NEW=$(%[6]s lock take s3://demo/jobs/ --reason demo)
  echo new | aws s3 cp - s3://demo/jobs/report --metadata fencing-token=$NEW
  echo old | aws s3 cp - s3://demo/jobs/report --metadata fencing-token=$OLD

The last one is refused: StaleFencingToken. Any S3 program, under a lock:

  %[6]s lock run s3://demo/jobs/ -- aws s3 cp FILE s3://demo/jobs/

`, dir, proxy.DevAccessKey, proxy.DevSecretKey, proxy.DevRegion, endpointOf(at), me)
}

// endpointOf is an address that a client on this machine can use.
func endpointOf(at net.Addr) string {
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return "http://" + at.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
