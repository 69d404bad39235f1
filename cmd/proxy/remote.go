package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

// credentialTime bounds the search for credentials, which may ask services.
const credentialTime = 15 * time.Second

// service is a proxy with the way to it.
type service struct {
	*client.Client
	endpoint, region string
}

// remote makes a client of the proxy that the environment names.
func remote(ctx context.Context) (*client.Client, error) {
	s, err := remoteAs(ctx, "")
	return s.Client, err
}

// remoteAs is remote with the credentials of a profile, and with the standard AWS
// chain's where that is empty.
func remoteAs(ctx context.Context, profile string) (service, error) {
	endpoint := cmp.Or(os.Getenv("S3FENCE_ENDPOINT"), os.Getenv("AWS_ENDPOINT_URL_S3"))
	if endpoint == "" {
		return service{}, usage("no proxy is named: set S3FENCE_ENDPOINT or AWS_ENDPOINT_URL_S3, such as http://127.0.0.1:9000")
	}
	ctx, cancel := context.WithTimeout(ctx, credentialTime)
	defer cancel()
	// What the SDK tells of its own search is noise beside our one line.
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithLogger(logging.Nop{})}
	if profile != "" {
		load = append(load, awsconfig.WithSharedConfigProfile(profile))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return service{}, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return service{}, fmt.Errorf("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: %w", err)
	}
	region := cmp.Or(cfg.Region, "us-east-1")
	opts := []client.Option{client.WithRegion(region)}
	if creds.SessionToken != "" {
		opts = append(opts, client.WithSessionToken(creds.SessionToken))
	}
	c, err := client.New(endpoint, creds.AccessKeyID, creds.SecretAccessKey, opts...)
	return service{c, endpoint, region}, err
}

// mayPass reports whether a failure of the service may go away by itself.
func mayPass(err error) bool {
	return errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrUnknownOutcome)
}

func jsonFlag(c *cobra.Command, on *bool) { c.Flags().BoolVar(on, "json", false, "print JSON") }

func printJSON(c *cobra.Command, v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// say tells people something; programs do not read it.
func say(c *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
}

// table prints aligned columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func orDash(s string) string { return cmp.Or(s, "-") }

// ownerLabel is who asks, for people: user@host.
func ownerLabel() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// tokenOf is the token of a flag, else of the environment.
func tokenOf(flag string) (int64, error) {
	text := cmp.Or(flag, os.Getenv("S3FENCE_TOKEN"))
	if text == "" {
		return 0, usage("no token is named: use --token, or set S3FENCE_TOKEN to what lock acquire printed")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usage("%q is not a fencing token: a whole number from 1, as lock acquire printed it", text)
	}
	return n, nil
}

// pageSize is how many scopes one call lists.
const pageSize = 500

// scopesUnder lists all scopes whose name begins with prefix.
func scopesUnder(ctx context.Context, s *client.Client, prefix string) ([]client.Scope, error) {
	var all []client.Scope
	for after := ""; ; {
		page, next, err := s.List(ctx, prefix, after, pageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		after = next
	}
}
