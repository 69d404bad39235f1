package s3blob

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
)

// parityHarness opens the bucket PARITY_BUCKET of the server that the environment
// names, where the harness of this package replays what was recorded of Amazon's.
type parityHarness struct {
	client    *s3.Client
	transport *http.Transport
	options   *Options
}

func newParityHarness(options *Options) drivertest.HarnessMaker {
	return func(context.Context, *testing.T) (drivertest.Harness, error) {
		h := &parityHarness{
			transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
			options:   options,
		}
		server, err := url.Parse(os.Getenv("SERVER_URL"))
		if err != nil {
			return nil, err
		}
		h.client = s3.New(s3.Options{
			Region:           "us-east-1",
			BaseEndpoint:     aws.String(server.String()),
			UsePathStyle:     os.Getenv("PARITY_STYLE") != "virtual",
			Credentials:      credentials.NewStaticCredentialsProvider(os.Getenv("ACCESS_KEY"), os.Getenv("SECRET_KEY"), ""),
			HTTPClient:       &http.Client{Transport: h.transport},
			RetryMaxAttempts: 1,
		})
		return h, nil
	}
}

func (h *parityHarness) HTTPClient() *http.Client { return &http.Client{Transport: h.transport} }

func (h *parityHarness) MakeDriver(ctx context.Context) (driver.Bucket, error) {
	return openBucket(ctx, h.client, os.Getenv("PARITY_BUCKET"), h.options)
}

func (h *parityHarness) MakeDriverForNonexistentBucket(ctx context.Context) (driver.Bucket, error) {
	return openBucket(ctx, h.client, "parity-bucket-does-not-exist", h.options)
}

func (h *parityHarness) SupportsCopy() bool               { return true }
func (h *parityHarness) SupportsNonSlashDelimiters() bool { return true }
func (h *parityHarness) Close()                           { h.transport.CloseIdleConnections() }

func TestParity(t *testing.T) {
	drivertest.RunConformanceTests(t, newParityHarness(nil), []drivertest.AsTest{verifyContentLanguage{usingLegacyList: false}})
}

func TestParityLegacyList(t *testing.T) {
	drivertest.RunConformanceTests(t, newParityHarness(&Options{UseLegacyList: true}), []drivertest.AsTest{verifyContentLanguage{usingLegacyList: true}})
}
