package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/faultproxy"
	"github.com/s3fence/s3fence/internal/testserver"
)

// Proxy is one running s3fence, or one that was stopped.
type Proxy struct {
	// URL is the base URL. It stays the same over restarts.
	URL string
	// Env is added to the environment at every start.
	Env map[string]string
	// Store and State are the fault proxies, where Options asked for them.
	Store, State *faultproxy.Proxy

	t           *testing.T
	cluster     *Cluster
	index       int
	folder      string
	addr, admin string // admin is empty for dev, which has no such listener
	args        []string
	// starts counts how often the process was started.
	starts    int
	process   *testserver.Process
	reporting sync.Once
	dialing   sync.Once
	dialed    *http.Transport
}

// Addr is the host and port of the data plane and of the lock service.
func (p *Proxy) Addr() string { return p.addr }

// Admin is the base URL of the operators' listener.
func (p *Proxy) Admin() string { return "http://" + p.admin }

// Folder is the proxy's working directory, with its configuration, or its
// s3fence-data.
func (p *Proxy) Folder() string { return p.folder }

func (p *Proxy) logFile() string { return filepath.Join(p.folder, "log") }

// start starts the process and waits until it is ready.
func (p *Proxy) start() error {
	if err := p.launch(); err != nil {
		return err
	}
	return p.awaitReady()
}

func (p *Proxy) launch() error {
	spec := testserver.Spec{
		Name: "s3fence", Path: Binary(p.t, p.cluster.options.Build), Args: p.args,
		Env: environment(p.folder, p.Env), Dir: p.folder, Log: p.logFile(),
	}
	if d := p.cluster.options.Disk; d != nil {
		spec = d.Enter(spec)
	}
	process, err := testserver.Launch(spec)
	if err != nil {
		return err
	}
	p.process = process
	p.starts++
	p.reporting.Do(func() {
		t := p.t
		t.Cleanup(func() {
			err := p.process.Kill()
			log := p.Log()
			if t.Failed() || err != nil {
				t.Logf("log of proxy %d ends:\n%s", p.index, log[max(0, len(log)-16<<10):])
			}
			if err != nil {
				t.Error(err)
			}
			for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
				if strings.Contains(log, sign) {
					t.Errorf("proxy %d: its log has %q", p.index, sign)
					break
				}
			}
		})
	})
	return nil
}

// awaitReady waits until /readyz says 200, or until dev has printed its block to
// paste as often as it was started.
func (p *Proxy) awaitReady() error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for deadline := time.Now().Add(readyWait); ; time.Sleep(10 * time.Millisecond) {
		err := p.ready(&client)
		if err == nil {
			return nil
		}
		if !p.process.Alive() {
			return fmt.Errorf("s3fence ended while starting; its log:\n%s", p.Log())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("s3fence is not ready within %v: %w; its log:\n%s", readyWait, err, p.Log())
		}
	}
}

func (p *Proxy) ready(client *http.Client) error {
	if p.admin == "" {
		if n := strings.Count(p.Log(), "s3fence is running"); n < p.starts {
			return fmt.Errorf("dev has said %d times that it is running, and was started %d times", n, p.starts)
		}
		return nil
	}
	resp, err := client.Get(p.Admin() + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", resp.Status)
	}
	return nil
}

// Restart starts the proxy again, after killing it where it still runs, and
// waits until it is ready.
func (p *Proxy) Restart() {
	p.t.Helper()
	p.Kill()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

// Launch starts an ended proxy and does not wait for it; AwaitReady does.
func (p *Proxy) Launch() {
	p.t.Helper()
	if err := p.launch(); err != nil {
		p.t.Fatal(err)
	}
}

// AwaitReady waits until the proxy takes requests.
func (p *Proxy) AwaitReady() {
	p.t.Helper()
	if err := p.awaitReady(); err != nil {
		p.t.Fatal(err)
	}
}

// Stop asks the proxy to end (SIGTERM) and waits for it.
func (p *Proxy) Stop() {
	p.t.Helper()
	p.Signal(unix.SIGTERM)
	p.AwaitExit()
}

// Signal sends a signal.
func (p *Proxy) Signal(sig unix.Signal) {
	p.t.Helper()
	if err := p.process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// AwaitExit waits until the process has ended by itself.
func (p *Proxy) AwaitExit() {
	p.t.Helper()
	if err := p.process.WaitExit(stopWait); err != nil {
		p.t.Fatal(err)
	}
}

// Kill ends the proxy by SIGKILL, frozen or not.
func (p *Proxy) Kill() {
	p.t.Helper()
	if err := p.process.Kill(); err != nil {
		p.t.Fatal(err)
	}
}

// Freeze stops the process (SIGSTOP) and returns when it stands still.
func (p *Proxy) Freeze() {
	p.t.Helper()
	if err := p.process.Pause(); err != nil {
		p.t.Fatal(err)
	}
}

// Thaw ends a Freeze, or a stop at a pause point.
func (p *Proxy) Thaw() {
	p.t.Helper()
	if err := p.process.Resume(); err != nil {
		p.t.Fatal(err)
	}
}

// Alive reports whether the process runs; a frozen one does.
func (p *Proxy) Alive() bool { return p.process.Alive() }

// Log is all that the proxy wrote to its standard output and error, over all
// of its starts.
func (p *Proxy) Log() string {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Arm makes a pause point with "?" fire at its next passing.
func (p *Proxy) Arm(point string) {
	p.t.Helper()
	if err := os.WriteFile(p.pauseFile(point, "arm"), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// AwaitHit waits until a pause point has fired.
func (p *Proxy) AwaitHit(point string) {
	p.t.Helper()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(p.pauseFile(point, "hit"))
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("proxy %d did not come to %s within %v", p.index, point, readyWait)
		}
	}
}

// Release lets who waits at a pause point go on, and returns once it does.
func (p *Proxy) Release(point string) {
	p.t.Helper()
	if err := os.WriteFile(p.pauseFile(point, "go"), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	for deadline := time.Now().Add(readyWait); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(p.pauseFile(point, "hit"))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("proxy %d did not go on from %s within %v", p.index, point, readyWait)
		}
	}
}

// Disarm takes back what Arm did, if nothing came by since, and forgets a hit.
func (p *Proxy) Disarm(point string) {
	for _, suffix := range []string{"arm", "hit"} {
		_ = os.Remove(p.pauseFile(point, suffix))
	}
}

func (p *Proxy) pauseFile(point, suffix string) string {
	dir := p.Env["S3FENCE_PAUSE_DIR"]
	if dir == "" {
		p.t.Fatal("the cluster has no pause points: set Options.Pause")
	}
	return filepath.Join(dir, point+"."+suffix)
}
