package parity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.yaml.in/yaml/v3"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/testserver"
)

const (
	// domain is where buckets are host names. No resolver knows it: virtual-hosted
	// requests go through a [gate] as their HTTP proxy.
	domain = "s3.test"

	readyWait = 60 * time.Second
	buildWait = 30 * time.Minute
)

// deployment is a store with two proxies before it, one over http and one over TLS.
// Each has a state of its own: a guard waits for every proxy of a state, and suites
// make hundreds of buckets.
type deployment struct {
	store         *storetest.Server
	cert          *certificate
	plain, secure proxy
	// accessKey and secretKey may do everything through the proxies.
	accessKey, secretKey string
}

// proxy is one s3fence.
type proxy struct {
	addr, url string
	api       *client.Client
}

// deploy starts the proxies before a store of this test's own.
func deploy(t *testing.T, store *storetest.Server) *deployment {
	t.Helper()
	d := &deployment{store: store, cert: newCertificate(t), accessKey: "parity", secretKey: rand.Text()}
	d.plain = d.proxy(t, "http", nil)
	d.secure = d.proxy(t, "https", map[string]string{"cert_file": d.cert.certFile, "key_file": d.cert.keyFile})
	return d
}

// proxy starts an s3fence on an empty state.
func (d *deployment) proxy(t *testing.T, scheme string, tls map[string]string) proxy {
	t.Helper()
	p := proxy{addr: freeAddress(t)}
	p.url = scheme + "://" + p.addr
	transport := &http.Transport{TLSClientConfig: d.cert.client}
	t.Cleanup(transport.CloseIdleConnections)
	var err error
	if p.api, err = client.New(p.url, d.accessKey, d.secretKey, client.WithHTTPClient(&http.Client{Transport: transport})); err != nil {
		t.Fatal(err)
	}
	folder := d.configure(t, pgtest.DSN(t), p.addr, tls)
	run(t, folder, "migrate", "--config", "s3fence.yaml")
	d.serve(t, folder, p.url)
	return p
}

// configure writes a proxy's configuration into a folder of its own.
func (d *deployment) configure(t *testing.T, state, listen string, tls map[string]string) string {
	t.Helper()
	folder, err := testserver.Folder("proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	config := map[string]any{
		"listen": listen, "admin_listen": "off", "state": state, "domain": domain,
		"upstreams": map[string]any{"main": map[string]any{
			"endpoint": d.store.Endpoint, "region": storetest.Region, "path": "direct",
			"access_key": d.store.AccessKey, "secret_key": d.store.SecretKey,
		}},
		"credentials": []any{map[string]any{
			"access_key": d.accessKey, "secret_key": d.secretKey,
			"rights": []string{"read", "write", "lock", "admin"}, "buckets": []string{"*"},
		}},
	}
	if tls != nil {
		config["tls"] = tls
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "s3fence.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// serve starts a proxy and waits until it answers.
func (d *deployment) serve(t *testing.T, folder, url string) {
	t.Helper()
	process, err := testserver.Launch(testserver.Spec{
		Name: "s3fence", Path: program(t), Args: []string{"serve", "--config", "s3fence.yaml"},
		Env: environment(folder), Dir: folder, Log: filepath.Join(folder, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Kill(); err != nil {
			t.Error(err)
		}
		log, err := os.ReadFile(filepath.Join(folder, "log"))
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", url, log[max(0, len(log)-4<<10):])
		}
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(string(log), sign) {
				t.Errorf("the log of %s has %q", url, sign)
			}
		}
	})
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: d.cert.client}, Timeout: readyWait}
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
			return
		}
		if !process.Alive() || time.Now().After(deadline) {
			t.Fatalf("%s is not ready: %v; its log ends:\n%s", url, err, process.Log())
		}
	}
}

// sweep deletes what a suite left in the store, as far as it can be deleted: tests of
// lists of buckets count them.
func (d *deployment) sweep(t *testing.T) {
	t.Helper()
	owner := d.store.Client(t)
	buckets, err := owner.ListBuckets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets {
		for u := range owner.ListIncompleteUploads(t.Context(), b.Name, "", true) {
			if u.Err == nil {
				_ = owner.RemoveIncompleteUpload(t.Context(), b.Name, u.Key)
			}
		}
		for o := range owner.ListObjects(t.Context(), b.Name, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
			if o.Err == nil {
				_ = owner.RemoveObject(t.Context(), b.Name, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true})
			}
		}
		_ = owner.RemoveBucket(t.Context(), b.Name)
	}
}

// program is the s3fence to test: that of S3FENCE_TEST_BIN, or one built here.
func program(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("S3FENCE_TEST_BIN"); dir != "" {
		return filepath.Join(dir, "s3fence")
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs s3fence to its end.
func run(t *testing.T, folder string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Dir, cmd.Env = folder, environment(folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("s3fence %s: %v\n%s", args[0], err, out)
	}
}

// environment is that of every program: nothing of the caller's.
func environment(home string, more ...string) []string {
	return append([]string{"PATH=/usr/bin:/bin", "HOME=" + home, "TMPDIR=" + home, "TZ=UTC", "AWS_EC2_METADATA_DISABLED=true"}, more...)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
}

// certificate is a self-signed one for 127.0.0.1 and every bucket of [domain].
type certificate struct {
	certFile, keyFile string
	server, client    *tls.Config
}

func newCertificate(t *testing.T) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "s3fence parity"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{domain, "*." + domain},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
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
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for file, text := range map[string][]byte{c.certFile: certPEM, c.keyFile: keyPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	c.server = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	c.client = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: domain}
	return c
}
