//go:build soak

package soak

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/proxy"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/testserver"
)

// This program runs itself once more, as a proxy wired by the same package as the
// delivered one, which tells what only a process can tell of itself.
const (
	configVariable  = "S3FENCE_TEST_SOAK_CONFIG"
	measureVariable = "S3FENCE_TEST_SOAK_MEASURE"
)

const readyWait = time.Minute

// The buckets. Guards cover jobs/*/ (holders), line/*/ (waiters) and swap/ (no
// tokens) of the first.
const guardedBucket, openBucket = "soak", "open"

// What is kept for a short time here, so that an hour sees it come and go.
const (
	longestUpload = 90 * time.Second
	collectAfter  = 60 * time.Second
	collectEvery  = 20 * time.Second
)

// inside is what the second proxy tells of itself.
type inside struct {
	Goroutines int
	// Heap is what is reachable, in bytes, right after a collection.
	Heap uint64
}

// serveSelf is the proxy that tells. It ends by a signal.
func serveSelf(file, measure string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := config.Load(file, nil)
	if err != nil {
		return err
	}
	p, err := proxy.New(ctx, c, proxy.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", measure)
	if err != nil {
		p.Close()
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stacks" {
			buffer := make([]byte, 4<<20)
			_, _ = w.Write(buffer[:runtime.Stack(buffer, true)])
			return
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(inside{runtime.NumGoroutine(), m.HeapAlloc})
	})}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()
	return p.Run(ctx)
}

// site is one proxy.
type site struct {
	addr, measure string
	folder        string
	process       *testserver.Process
	pid           int
	http          *http.Client
	transport     *http.Transport
}

// startSites starts everything, on loopback. It ends with the test.
func startSites(t *testing.T) (sites []*site, dsn string, store *storetest.Discard, access, secret string) {
	t.Helper()
	database := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn = database.DSN("postgres")
	var server *storetest.Server
	if *flagMinIO {
		server = storetest.Start(t)
	} else {
		server, store = storetest.StartDiscard(t)
	}
	for _, bucket := range []string{guardedBucket, openBucket} {
		if err := server.Client(t).MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{Region: region}); err != nil {
			t.Fatal(err)
		}
	}
	access, secret = "soak", rand.Text()
	binary, err := filepath.Abs(filepath.Join("..", "..", "bin", "s3fence"))
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		t.Fatalf("%v; build it with make build", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		folder, err := testserver.Folder("proxy")
		if err != nil {
			t.Fatal(err)
		}
		s := &site{addr: freeAddr(t), folder: folder}
		s.transport = &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ResponseHeaderTimeout: callWait}
		s.http = &http.Client{Transport: s.transport}
		file := filepath.Join(folder, "s3fence.yaml")
		writeConfig(t, file, map[string]any{
			"listen": s.addr, "admin_listen": freeAddr(t), "state": dsn,
			"longest_upload": longestUpload.String(), "collect_after": collectAfter.String(), "collect_every": collectEvery.String(),
			"upstreams":   map[string]any{"main": map[string]any{"endpoint": server.Endpoint, "region": region, "access_key": server.AccessKey, "secret_key": server.SecretKey}},
			"credentials": []any{map[string]any{"access_key": access, "secret_key": secret, "rights": []string{"read", "write", "lock", "admin"}, "buckets": []string{"*"}}},
			"guards": []any{
				map[string]any{"pattern": "s3://" + guardedBucket + "/jobs/*/"},
				map[string]any{"pattern": "s3://" + guardedBucket + "/line/*/"},
				map[string]any{"pattern": "s3://" + guardedBucket + "/swap/", "tokens": "none"},
			},
		})
		env := []string{"HOME=" + folder, "PATH=/usr/bin:/bin", "TMPDIR=" + folder}
		spec := testserver.Spec{Name: "s3fence", Path: binary, Args: []string{"serve", "--config", file}, Env: env, Dir: folder, Log: filepath.Join(folder, "log")}
		if i == 0 {
			migrate := exec.CommandContext(t.Context(), binary, "migrate", "--config", file)
			migrate.Env = env
			if out, err := migrate.CombinedOutput(); err != nil {
				t.Fatalf("migrate: %v\n%s", err, out)
			}
		} else {
			s.measure = freeAddr(t)
			spec.Path, spec.Args = self, nil
			spec.Env = append(spec.Env, configVariable+"="+file, measureVariable+"="+s.measure)
		}
		if s.process, err = testserver.Launch(spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of proxy %d ends:\n%s", i, s.process.Log())
			}
			if err := s.process.Kill(); err != nil {
				t.Error(err)
			}
		})
		sites = append(sites, s)
	}
	for _, s := range sites {
		s.awaitReady(t)
	}
	return sites, dsn, store, access, secret
}

func (s *site) awaitReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", s.addr)
		if err == nil {
			conn.Close()
			break
		}
		if !s.process.Alive() || time.Now().After(deadline) {
			t.Fatalf("a proxy is not ready: %v; its log ends:\n%s", err, s.process.Log())
		}
	}
	pids, err := s.process.Pids()
	if err != nil || len(pids) != 1 {
		t.Fatalf("the proxy's processes are %v: %v", pids, err)
	}
	s.pid = pids[0]
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

// look fetches what the proxy tells at a path of its own.
func (s *site) look(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.measure+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
