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

// deployment is a store with two proxies before it, one over http and one over TLS,
// which share a state.
type deployment struct {
	store *storetest.Server
	cert  *certificate
	// plain and secure are the proxies' host and port.
	plain, secure string
	// accessKey and secretKey may do everything through the proxies.
	accessKey, secretKey string
	api                  *client.Client
}

// deploy starts the proxies before a store of this test's own.
func deploy(t *testing.T, store *storetest.Server) *deployment {
	t.Helper()
	d := &deployment{
		store: store, cert: newCertificate(t), plain: freeAddress(t), secure: freeAddress(t),
		accessKey: "parity", secretKey: rand.Text(),
	}
	state := pgtest.DSN(t)
	plain := d.configure(t, state, d.plain, nil)
	secure := d.configure(t, state, d.secure, map[string]string{"cert_file": d.cert.certFile, "key_file": d.cert.keyFile})
	run(t, plain, "migrate", "--config", "s3fence.yaml")
	var err error
	if d.api, err = client.New("http://"+d.plain, d.accessKey, d.secretKey); err != nil {
		t.Fatal(err)
	}
	for folder, url := range map[string]string{plain: "http://" + d.plain, secure: "https://" + d.secure} {
		d.serve(t, folder, url)
	}
	return d
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
		"listen": listen, "admin_listen": "off", "state": state, "domain": domain, "guard_lease": "5s",
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
