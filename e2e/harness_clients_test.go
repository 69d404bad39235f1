package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"
)

// http returns a client of the proxy that keeps connections open until the
// test ends and follows no redirect.
func (p *Proxy) http() *http.Client {
	return &http.Client{
		Transport:     p.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport is the proxy's shared transport.
func (p *Proxy) transport() *http.Transport {
	p.dialing.Do(func() {
		p.dialed = &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}
		if p.cluster.cert != nil {
			p.dialed.TLSClientConfig = p.cluster.cert.client
		}
		p.t.Cleanup(p.dialed.CloseIdleConnections)
	})
	return p.dialed
}

// S3 returns a client of aws-sdk-go-v2 that tries everything once.
func (p *Proxy) S3(options ...func(*s3.Options)) *s3.Client {
	base := func(o *s3.Options) {
		o.BaseEndpoint = aws.String(p.URL)
		o.Region = "us-east-1"
		o.UsePathStyle = true
		o.Credentials = awscredentials.NewStaticCredentialsProvider(p.cluster.AccessKey, p.cluster.SecretKey, "")
		o.HTTPClient = p.http()
		o.RetryMaxAttempts = 1
	}
	return s3.New(s3.Options{}, append([]func(*s3.Options){base}, options...)...)
}

// TokenHeader makes every request of an S3 client carry a token in a signed
// header.
func TokenHeader(token int64) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("X-Fencing-Token", strconv.FormatInt(token, 10)))
	}
}

// TokenQuery makes every request of an S3 client, presigned ones above all,
// carry a token in the query.
func TokenQuery(token int64) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("FencingTokenInQuery", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				if req, ok := in.Request.(*smithyhttp.Request); ok {
					query := req.URL.Query()
					query.Set("X-Fencing-Token", strconv.FormatInt(token, 10))
					req.URL.RawQuery = query.Encode()
				}
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		})
	}
}

// MinIO returns a client of minio-go that tries everything once.
func (p *Proxy) MinIO(t testing.TB, options ...func(*minio.Options)) *minio.Client {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := minio.Options{
		Creds:      miniocredentials.NewStaticV4(p.cluster.AccessKey, p.cluster.SecretKey, ""),
		Secure:     u.Scheme == "https",
		Region:     "us-east-1",
		Transport:  p.transport(),
		MaxRetries: 1,
	}
	for _, f := range options {
		f(&o)
	}
	client, err := minio.New(u.Host, &o)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// certificate is a self-signed one for 127.0.0.1.
type certificate struct {
	certFile, keyFile string
	client            *tls.Config
}

func newCertificate(t *testing.T) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "s3fence e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &certificate{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem")}
	for file, block := range map[string]*pem.Block{c.certFile: {Type: "CERTIFICATE", Bytes: der}, c.keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	c.client = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return c
}
