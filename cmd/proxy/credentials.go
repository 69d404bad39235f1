package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
)

// recursion is set for whatever this command starts: a profile whose
// credential_process is this command would start it for ever.
const recursion = "S3FENCE_CREDENTIAL_PROCESS"

func newCredentials() *cobra.Command {
	var token, profile, listen string
	var asEnv bool
	c := &cobra.Command{
		Use:   "credentials SCOPE",
		Short: "Print credentials that carry a fencing token",
		Long: `credentials prints temporary credentials for a lock that is held. Every S3 request
signed with them carries the lock's token inside SCOPE; everywhere else they can do
what the credentials that asked can do, except write into other guarded scopes. It
acquires nothing. Exit code 4: the token is stale; take the lock again.

The form is that of credential_process in an AWS configuration:

  [profile nightly]
  credential_process = s3fence credentials s3://data/jobs/nightly/ --profile backup

There --profile names the profile of the credentials that ask, and S3FENCE_TOKEN
comes from the environment. With --env it prints export lines for a shell, with
--listen it serves the credentials as a container's endpoint does, until it is
interrupted, and prints the two export lines that lead there.`,
		Example: `  export S3FENCE_TOKEN=$(s3fence lock acquire s3://data/jobs/nightly/ --ttl 10m)
  ENV=$(s3fence credentials s3://data/jobs/nightly/ --env) && eval "$ENV"`,
		Args: takes(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if asEnv && listen != "" {
				return usage("--env and --listen exclude each other")
			}
			n, err := tokenOf(token)
			if err != nil {
				return err
			}
			if os.Getenv(recursion) != "" {
				return usage("the credential_process that s3fence credentials would ask is s3fence credentials itself: name the profile of the credentials that ask with --profile")
			}
			if err := os.Setenv(recursion, "1"); err != nil {
				return err
			}
			s, err := remoteAs(c.Context(), profile)
			if err != nil {
				return err
			}
			switch {
			case listen != "":
				return s.serveCredentials(c, listen, args[0], n)
			case asEnv:
				return s.printEnv(c, args[0], n)
			}
			got, err := s.Credentials(c.Context(), args[0], n)
			if err != nil {
				return err
			}
			return printJSON(c, processOut{1, got.AccessKeyID, got.SecretAccessKey, got.SessionToken, got.Expiration})
		},
	}
	c.Flags().StringVar(&token, "token", "", "the token that acquire printed (default $S3FENCE_TOKEN)")
	c.Flags().StringVar(&profile, "profile", "", "the AWS `profile` of the credentials that ask (default: the standard chain)")
	c.Flags().BoolVar(&asEnv, "env", false, "print export lines for a shell")
	c.Flags().StringVar(&listen, "listen", "", "serve them on a loopback `address`, such as 127.0.0.1:0")
	return c
}

// processOut is the form of credential_process
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).
type processOut struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
}

// printEnv prints fenced credentials as export lines.
func (s *service) printEnv(c *cobra.Command, scope string, token int64) error {
	got, err := s.Credentials(c.Context(), scope, token)
	if err != nil {
		return err
	}
	return printExports(c.OutOrStdout(), fencedEnv(c.Context(), s.endpoint, s.region, scope, token, got))
}
