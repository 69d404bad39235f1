package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/s3fence/s3fence/internal/testserver"
)

// Bounds of the waits of this package.
const (
	// buildWait bounds a build: MinIO's takes five minutes on two cores.
	buildWait = 30 * time.Minute
	// readyWait bounds a start.
	readyWait = 2 * time.Minute
	// callWait bounds one call of this package to the store.
	callWait = 30 * time.Second
	// startTries is how many ports are tried.
	startTries = 5
)

// Region is the region of every server.
const Region = "us-east-1"

// brand is what one make of server needs: how it is built, started and found ready.
type brand struct {
	name   string
	script string
	args   func(s *Server) []string
	env    func(s *Server) []string
	ready  map[string]int
}

// Server is one S3 server. Its fields are fixed; its methods are not for
// concurrent use, except Bucket and Client.
type Server struct {
	// Endpoint is the base URL, as http://127.0.0.1:PORT. It stays the same
	// over restarts.
	Endpoint string
	// AccessKey and SecretKey are the owner's credentials.
	AccessKey, SecretKey string

	brand          *brand
	binary, folder string
	port           int
	process        *testserver.Process
	// shared forbids what would hurt other tests.
	shared bool
}

// ErrShared is returned where a test tries to hurt the server that it shares
// with others. It must take a server of its own, as with [Start].
var ErrShared = errors.New("storetest: this server is shared by all tests of the process; take one of its own with storetest.Start")

// shared starts the server of this process. It is never closed: it ends with
// the process.
func (b *brand) shared() func() (*Server, error) {
	return sync.OnceValues(func() (*Server, error) {
		server, err := b.open()
		if err == nil {
			server.shared = true
		}
		return server, err
	})
}

// start starts a server for this test alone.
func (b *brand) start(t testing.TB) *Server {
	t.Helper()
	server, err := b.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s's log ends:\n%s", b.name, server.process.Log())
		}
		if err := server.close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func (b *brand) open() (*Server, error) {
	binary, err := b.build()
	if err != nil {
		return nil, err
	}
	folder, err := testserver.Folder(strings.ToLower(b.name))
	if err != nil {
		return nil, err
	}
	s := &Server{AccessKey: "s3fence-" + rand.Text()[:8], SecretKey: rand.Text(), brand: b, binary: binary, folder: folder}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return nil, fmt.Errorf("storetest: %w", err)
	}
	for range startTries {
		if s.port, err = testserver.FreePort(); err != nil {
			break
		}
		s.Endpoint = "http://127.0.0.1:" + strconv.Itoa(s.port)
		if err = s.start(); err == nil {
			return s, nil
		}
		if s.process == nil || !strings.Contains(s.process.Log(), "address already in use") {
			break
		}
	}
	return nil, errors.Join(err, s.close())
}

// build returns the path of the server's binary.
func (b *brand) build() (string, error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", b.script))
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("storetest: scripts/%s: %w\n%s", b.script, err, messages.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// checkout finds the root of the source tree above the working directory.
func checkout() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("storetest: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("storetest: no go.mod at or above %s: run the tests inside the checkout", start)
		}
	}
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// start runs the server and waits until it takes requests.
func (s *Server) start() error {
	process, err := testserver.Launch(testserver.Spec{
		Name: s.brand.name, Path: s.binary, Args: s.brand.args(s),
		Env: append([]string{"HOME=" + s.folder, "PATH=/usr/bin:/bin"}, s.brand.env(s)...),
		Dir: s.data(), Log: filepath.Join(s.folder, "log"),
	})
	if err != nil {
		return err
	}
	s.process = process
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: callWait}
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		err := ready(&client, s.Endpoint, s.brand.ready)
		switch {
		case err == nil:
			return nil
		case !process.Alive():
			return fmt.Errorf("storetest: %s ended while starting; its log ends:\n%s", s.brand.name, process.Log())
		case time.Now().After(deadline):
			return errors.Join(
				fmt.Errorf("storetest: %s is not ready within %v: %w; its log ends:\n%s", s.brand.name, readyWait, err, process.Log()),
				process.Kill())
		}
	}
}

// ready asks each of the paths for its status.
func ready(client *http.Client, endpoint string, statuses map[string]int) error {
	for path, want := range statuses {
		resp, err := client.Get(endpoint + path)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != want {
			return fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
		}
	}
	return nil
}

// Client returns a client of the server with the owner's credentials. It keeps
// no connection open and tries everything once.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds:      credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Region:     Region,
		Transport:  &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		MaxRetries: 1,
	})
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	return client
}

// Bucket makes a bucket for this test and returns its name. It goes away with
// the server.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	ctx, cancel := context.WithTimeout(t.Context(), callWait)
	defer cancel()
	if err := s.Client(t).MakeBucket(ctx, name, minio.MakeBucketOptions{Region: Region}); err != nil {
		t.Fatalf("storetest: make bucket %s: %v", name, err)
	}
	return name
}

// Kill ends the server by SIGKILL, frozen or not.
func (s *Server) Kill() error {
	if s.shared {
		return ErrShared
	}
	return s.process.Kill()
}

// Restart starts the server again on its old port and data, after killing it
// where it still runs, and returns when it takes requests.
func (s *Server) Restart() error {
	if err := s.Kill(); err != nil {
		return err
	}
	return s.start()
}

// Pause freezes the server: the kernel goes on to accept connections and bytes,
// and nothing is answered.
func (s *Server) Pause() error {
	if s.shared {
		return ErrShared
	}
	return s.process.Pause()
}

// Resume ends a Pause.
func (s *Server) Resume() error {
	if s.shared {
		return ErrShared
	}
	return s.process.Resume()
}

func (s *Server) close() error {
	var err error
	if s.process != nil {
		err = s.process.Kill()
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
