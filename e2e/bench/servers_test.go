//go:build bench

package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/testserver"
)

const (
	readyWait = time.Minute
	// The buckets of the store, under the same names through the proxy. The
	// guard covers hot/ in the last one.
	directBucket, openBucket, sealedBucket = "direct", "open", "sealed"
	sealedScope                            = "s3://" + sealedBucket + "/hot/"
)

// servers are everything that a run needs, on loopback.
type servers struct {
	store *storetest.Server
	// sides by name: direct, unguarded, sealed.
	sides map[string]*endpoint
	// root is the folder above the folders of all servers.
	root string
	// pid is the proxy's process.
	pid int
	// profiler is the address of net/http/pprof in the proxy; empty where the
	// proxy is the delivered binary.
	profiler string
	proxy    *testserver.Process
}

// start starts PostgreSQL, MinIO and the proxy. They end with the test.
func start(t *testing.T, binary string) *servers {
	t.Helper()
	database := pgtest.Start(t, pgtest.Options{Durable: true})
	s := &servers{store: storetest.Start(t)}
	storeAddr := strings.TrimPrefix(s.store.Endpoint, "http://")
	owner := aws.Credentials{AccessKeyID: s.store.AccessKey, SecretAccessKey: s.store.SecretKey}
	caller := aws.Credentials{AccessKeyID: "bench", SecretAccessKey: rand.Text()}
	s.sides = map[string]*endpoint{"direct": {addr: storeAddr, creds: owner, bucket: directBucket, prefix: "hot/"}}
	for _, bucket := range []string{directBucket, openBucket, sealedBucket} {
		w := newWire(storeAddr)
		put, err := s.sides["direct"].sign(t.Context(), http.MethodPut, "/"+bucket, "", unsigned, nil, time.Now())
		if err == nil {
			_, err = w.send(t.Context(), &put)
		}
		w.close()
		if err != nil {
			t.Fatalf("make bucket %s: %v", bucket, err)
		}
	}
	folder, err := testserver.Folder("proxy")
	if err != nil {
		t.Fatal(err)
	}
	s.root = filepath.Dir(folder)
	listen, admin := freeAddr(t), freeAddr(t)
	config := filepath.Join(folder, "s3fence.yaml")
	writeConfig(t, config, map[string]any{
		"listen": listen, "admin_listen": admin, "state": database.DSN("postgres"),
		"upstreams":   map[string]any{"main": map[string]any{"endpoint": s.store.Endpoint, "region": region, "access_key": s.store.AccessKey, "secret_key": s.store.SecretKey}},
		"credentials": []any{map[string]any{"access_key": caller.AccessKeyID, "secret_key": caller.SecretAccessKey, "rights": []string{"read", "write", "lock", "admin"}, "buckets": []string{"*"}}},
		"guards":      []any{map[string]any{"pattern": sealedScope}},
	})
	s.launch(t, binary, folder, config)
	s.sides["unguarded"] = &endpoint{addr: listen, creds: caller, bucket: openBucket, prefix: "hot/"}
	s.sides["sealed"] = &endpoint{addr: listen, creds: caller, bucket: sealedBucket, prefix: "hot/"}
	s.awaitReady(t, listen)
	s.sides["sealed"].token = acquire(t, s.sides["sealed"])
	return s
}

// launch migrates the database and starts the proxy: the binary, or where it is
// empty this program itself with a profiler.
func (s *servers) launch(t *testing.T, binary, folder, config string) {
	t.Helper()
	serve := testserver.Spec{
		Name: "s3fence", Path: binary, Args: []string{"serve", "--config", config},
		Env: []string{"HOME=" + folder, "PATH=/usr/bin:/bin", "TMPDIR=" + folder}, Dir: folder, Log: filepath.Join(folder, "log"),
	}
	var err error
	if binary == "" {
		s.profiler = freeAddr(t)
		if serve.Path, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
		serve.Args, serve.Env = nil, append(serve.Env, configVariable+"="+config, pprofVariable+"="+s.profiler)
	} else {
		ctx, cancel := context.WithTimeout(t.Context(), readyWait)
		defer cancel()
		migrate := exec.CommandContext(ctx, binary, "migrate", "--config", config)
		migrate.Env = serve.Env
		if out, err := migrate.CombinedOutput(); err != nil {
			t.Fatalf("%s migrate: %v\n%s", binary, err, out)
		}
	}
	if s.proxy, err = testserver.Launch(serve); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy's log ends:\n%s", s.proxy.Log())
		}
		if err := s.proxy.Kill(); err != nil {
			t.Error(err)
		}
	})
}

// awaitReady waits until the proxy answers S3 requests.
func (s *servers) awaitReady(t *testing.T, listen string) {
	t.Helper()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		w := newWire(listen)
		ask, err := s.sides["sealed"].sign(t.Context(), http.MethodHead, "/"+sealedBucket, "", unsigned, nil, time.Now())
		if err == nil {
			_, err = w.send(t.Context(), &ask)
		}
		w.close()
		if err == nil {
			break
		}
		if !s.proxy.Alive() || time.Now().After(deadline) {
			t.Fatalf("the proxy is not ready: %v; its log ends:\n%s", err, s.proxy.Log())
		}
	}
	pids, err := s.proxy.Pids()
	if err != nil || len(pids) != 1 {
		t.Fatalf("the proxy's processes are %v: %v", pids, err)
	}
	s.pid = pids[0]
}

// acquire takes the lock of the guarded scope and returns its token. Nobody
// takes it again, so that the token stays good when the lease is over.
func acquire(t *testing.T, e *endpoint) string {
	t.Helper()
	body := []byte(`{"scope":"` + sealedScope + `","owner":"bench","ttl":"60s"}`)
	sum := sha256.Sum256(body)
	ask, err := e.sign(t.Context(), http.MethodPost, "/-/v1/locks/acquire", "", hex.EncodeToString(sum[:]), body, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(e.addr)
	defer w.close()
	w.keep = new(bytes.Buffer)
	if _, err := w.send(t.Context(), &ask); err != nil {
		t.Fatal(err)
	}
	var lease struct {
		Token json.Number `json:"token"`
	}
	if err := json.Unmarshal(w.keep.Bytes(), &lease); err != nil || lease.Token == "" {
		t.Fatalf("acquire answered %q: %v", w.keep, err)
	}
	return lease.Token.String()
}

// writeConfig writes JSON, which is YAML.
func writeConfig(t *testing.T, path string, config map[string]any) {
	t.Helper()
	text, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// scratch points TMPDIR, below which all servers keep their data, to a folder
// on a real disk, or to one in memory.
func scratch(t *testing.T, folder string, memory bool) {
	t.Helper()
	candidates := []string{os.TempDir(), "/tmp", "/var/tmp"}
	switch {
	case folder != "" && memory:
		t.Fatal("-dir and -tmpfs exclude each other")
	case folder != "":
		candidates = []string{folder}
	case memory:
		candidates = []string{"/dev/shm"}
	}
	for _, c := range candidates {
		if inMemory, err := isTmpfs(c); err == nil && (inMemory == memory || folder != "") {
			t.Setenv("TMPDIR", c)
			return
		}
	}
	t.Fatalf("none of %s will do: name a folder with -dir", fmt.Sprint(candidates))
}
