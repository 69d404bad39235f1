//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/proxy"
)

// The delivered binary has no profiler and no symbols. With -profile this
// program runs itself once more, as the proxy, wired by the same package and
// with net/http/pprof on a port of its own; profiles of each proxied round land
// in the flag's folder.
const (
	configVariable = "S3FENCE_TEST_BENCH_CONFIG"
	pprofVariable  = "S3FENCE_TEST_BENCH_PPROF"
)

// serveSelf is the proxy with a profiler. It ends by a signal.
func serveSelf(file, profiler string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := config.Load(file, nil)
	if err != nil {
		return err
	}
	if _, _, err := postgres.Migrate(ctx, string(c.State)); err != nil {
		return err
	}
	p, err := proxy.New(ctx, c, proxy.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/profile", pprof.Profile)
	mux.Handle("/allocs", pprof.Handler("allocs"))
	mux.Handle("/goroutine", pprof.Handler("goroutine"))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", profiler)
	if err != nil {
		p.Close()
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()
	return p.Run(ctx)
}

// profiler takes a CPU profile over each measured round of a proxied side.
func profiler(addr, folder string, length time.Duration) func(*load, string, int, func() error) error {
	seconds := max(1, int(length/time.Second))
	return func(l *load, side string, round int, run func() error) error {
		if side == "direct" {
			return run()
		}
		name := filepath.Join(folder, fmt.Sprintf("%s-%s-%d", strings.ToLower(l.name), side, round))
		taken := make(chan error, 1)
		go func() {
			taken <- fetch("http://"+addr+"/profile?seconds="+strconv.Itoa(seconds), name+".cpu")
		}()
		return errors.Join(run(), <-taken, fetch("http://"+addr+"/allocs", name+".allocs"))
	}
}

// fetch writes what an address answers into a file.
func fetch(address, path string) error {
	client := http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(address)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", address, answer.StatusCode)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, answer.Body)
	return errors.Join(err, file.Close())
}
