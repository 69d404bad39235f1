// Command parity runs versitygw's integration tests against any server, as its own
// subcommand "test full-flow" does.
package main

import (
	"context"
	"os"

	"github.com/versity/versitygw/tests/integration"
)

func main() {
	options := []integration.Option{
		integration.WithAccess(os.Getenv("ACCESS_KEY")),
		integration.WithSecret(os.Getenv("SECRET_KEY")),
		integration.WithRegion("us-east-1"),
		integration.WithEndpoint(os.Getenv("SERVER_URL")),
		integration.WithTLSStatus(true),
	}
	if os.Getenv("PARITY_STYLE") == "virtual" {
		options = append(options, integration.WithHostStyle())
	}
	if os.Getenv("PARITY_VERSIONING") != "" {
		options = append(options, integration.WithVersioningEnabled())
	}
	tests := integration.NewTestState(context.Background(), integration.NewS3Conf(options...), false)
	integration.TestFullFlow(tests)
	tests.Wait()
}
