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
	// buildWait bounds the build of MinIO, five minutes on two cores.
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

// Server is one MinIO server. Its fields are fixed; its methods are not for
// concurrent use, except Bucket and Client.
type Server struct {
	// Endpoint is the base URL, as http://127.0.0.1:PORT. It stays the same
	// over restarts.
	Endpoint string
	// AccessKey and SecretKey are the owner's credentials.
	AccessKey, SecretKey string

	binary, folder string
	port           int
	process        *testserver.Process
	// shared forbids what would hurt other tests.
	shared bool
}

// ErrShared is returned where a test tries to hurt the server that it shares
// with others. It must take a server of its own with [Start].
var ErrShared = errors.New("storetest: this server is shared by all tests of the process; take one of its own with storetest.Start")

// shared starts the server of this process. It is never closed: it ends with
// the process.
var shared = sync.OnceValues(func() (*Server, error) {
	server, err := open()
	if err == nil {
		server.shared = true
	}
	return server, err
})

// MinIO returns the server that all tests of this process share.
func MinIO(t testing.TB) *Server {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Start starts a server for this test alone. It is ended and removed when the
// test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	server, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("MinIO's log ends:\n%s", server.process.Log())
		}
		if err := server.close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func open() (*Server, error) {
	binary, err := build()
	if err != nil {
		return nil, err
	}
	folder, err := testserver.Folder("minio")
	if err != nil {
		return nil, err
	}
	s := &Server{AccessKey: "s3fence-" + rand.Text()[:8], SecretKey: rand.Text(), binary: binary, folder: folder}
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

// build returns the path of the MinIO binary.
var build = sync.OnceValues(func() (string, error) {
	root, err := checkout()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "minio.sh"))
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("storetest: scripts/minio.sh: %w\n%s", err, messages.String())
	}
	return strings.TrimSpace(string(out)), nil
})

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
		Name: "MinIO", Path: s.binary,
		Args: []string{"server", "--quiet", "--address", "127.0.0.1:" + strconv.Itoa(s.port),
			"--certs-dir", filepath.Join(s.folder, "certs"), s.data()},
		Env: []string{
			"HOME=" + s.folder, "PATH=/usr/bin:/bin",
			"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
			// No web page on a port of its own, no look for updates.
			"MINIO_BROWSER=off", "MINIO_UPDATE=off",
			// CI mode lets the data stand on the root disk.
			"MINIO_CI_CD=1",
		},
		Dir: s.data(), Log: filepath.Join(s.folder, "log"),
	})
	if err != nil {
		return err
	}
	s.process = process
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: callWait}
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		err := ready(&client, s.Endpoint)
		switch {
		case err == nil:
			return nil
		case !process.Alive():
			return fmt.Errorf("storetest: MinIO ended while starting; its log ends:\n%s", process.Log())
		case time.Now().After(deadline):
			return errors.Join(
				fmt.Errorf("storetest: MinIO is not ready within %v: %w; its log ends:\n%s", readyWait, err, process.Log()),
				process.Kill())
		}
	}
}

// ready asks MinIO's own probe, and then for a signed answer: the probe turns
// green before the store knows its credentials.
func ready(client *http.Client, endpoint string) error {
	for path, want := range map[string]int{"/minio/health/ready": http.StatusOK, "/": http.StatusForbidden} {
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
