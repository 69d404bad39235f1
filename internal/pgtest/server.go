package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/testserver"
)

// User is the superuser of every server that this package starts. It has no
// password.
const User = "s3fence"

// Bounds of the waits for a server.
const (
	// readyWait bounds start and crash recovery.
	readyWait = 2 * time.Minute
	// stopWait bounds an orderly stop.
	stopWait = time.Minute
	// startTries is how many ports are tried.
	startTries = 5
)

// Options of a private server. The zero value suits most tests.
type Options struct {
	// Durable turns fsync and full_page_writes on: a commit that was answered
	// survives SIGKILL of everything even so, but only a durable server shows
	// what commits cost, and only it may be called safe against power loss.
	Durable bool
	// Settings are set in postgresql.conf, over this package's own. Values are
	// written as given: quote what needs quotes.
	Settings map[string]string
	// WAL, where set, holds the server's log, in segments of 1 MiB. It belongs to whom
	// testserver.Unprivileged names.
	WAL *testserver.Disk
}

// Mode is a way to stop a server, see "Shutting Down the Server" in
// PostgreSQL's manual.
type Mode string

// The three shutdown modes.
const (
	// Smart waits until every client has left.
	Smart Mode = "smart"
	// Fast ends clients' sessions, rolling back, and writes a checkpoint.
	Fast Mode = "fast"
	// Immediate ends everything without a checkpoint; the next start recovers
	// from the log.
	Immediate Mode = "immediate"
)

// signals are what the postmaster takes for each mode.
var signals = map[Mode]unix.Signal{Smart: unix.SIGTERM, Fast: unix.SIGINT, Immediate: unix.SIGQUIT}

// Server is one PostgreSQL server, running or not. Its methods are not for
// concurrent use, except DSN.
type Server struct {
	folder, bin string
	port        int
	process     *testserver.Process
}

// Open makes a cluster and starts a server on it, listening on a Unix socket
// and on a port of 127.0.0.1 that stays the same over restarts. Tests use
// [Start]; Open is for programs that are no test.
func Open(options Options) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	folder, err := testserver.Folder("pg")
	if err != nil {
		return nil, err
	}
	s := &Server{folder: folder, bin: bin}
	if err := s.create(options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.firstStart(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }
func (s *Server) log() string  { return filepath.Join(s.folder, "log") }

// environment of PostgreSQL's programs. LC_ALL=C keeps messages in English and
// needs no locale on the machine; PG* variables of the caller have no say.
func (s *Server) environment() []string {
	return []string{"LC_ALL=C", "TZ=UTC", "PATH=" + s.bin + ":/usr/bin:/bin", "HOME=" + s.folder}
}

// create makes the cluster and its configuration.
func (s *Server) create(options Options) error {
	cred, err := testserver.Unprivileged()
	if err != nil {
		return err
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "--pgdata="+s.data(), "--username="+User,
		"--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")
	if options.WAL != nil {
		initdb.Args = append(initdb.Args, "--waldir="+options.WAL.Outside("wal"), "--wal-segsize=1")
	}
	initdb.Dir, initdb.Env = s.folder, s.environment()
	initdb.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: %s: %w\n%s", initdb.Path, err, out)
	}
	settings := map[string]string{
		"listen_addresses":        "'127.0.0.1'",
		"unix_socket_directories": "'" + s.folder + "'",
		"max_connections":         "300",
		"shared_buffers":          "64MB",
		// Shared memory in the cluster's folder goes with it; the default
		// leaves files in /dev/shm when the server is killed.
		"dynamic_shared_memory_type": "mmap",
		"log_timezone":               "'UTC'",
		"timezone":                   "'UTC'",
		"log_min_messages":           "warning",
		"max_wal_size":               "256MB",
	}
	if !options.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
		settings["synchronous_commit"] = "off"
	}
	maps.Copy(settings, options.Settings)
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = %s\n", name, settings[name])
	}
	conf, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("pgtest: configure the server: %w", err)
	}
	_, err = conf.WriteString(lines.String())
	if err := errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("pgtest: configure the server: %w", err)
	}
	return nil
}

// firstStart starts the server on the first free port that it gets.
func (s *Server) firstStart() error {
	var failed error
	for range startTries {
		port, err := testserver.FreePort()
		if err != nil {
			return err
		}
		s.port = port
		if failed = s.Start(); failed == nil {
			return nil
		}
		if !strings.Contains(s.process.Log(), "Address already in use") {
			break
		}
	}
	return failed
}

// Start starts a stopped or killed server on its old port and returns when it
// answers queries, which is after crash recovery.
func (s *Server) Start() error {
	cred, err := testserver.Unprivileged()
	if err != nil {
		return err
	}
	process, err := testserver.Launch(testserver.Spec{
		Name: "PostgreSQL", Path: filepath.Join(s.bin, "postgres"),
		Args: []string{"-D", s.data(), "-p", strconv.Itoa(s.port)},
		Env:  s.environment(), Dir: s.data(), Log: s.log(), Credential: cred,
	})
	if err != nil {
		return err
	}
	s.process = process
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	for {
		err := ping(ctx, s.DSN("postgres"))
		switch {
		case err == nil:
			return nil
		case !process.Alive():
			return fmt.Errorf("pgtest: the server ended while starting; its log ends:\n%s", process.Log())
		case ctx.Err() != nil:
			return errors.Join(
				fmt.Errorf("pgtest: the server does not answer within %v: %w; its log ends:\n%s", readyWait, err, process.Log()),
				process.Kill())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func ping(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

// Stop stops the server in an orderly way and waits until all of its processes
// are gone. Smart waits for clients to leave, and fails after a minute.
func (s *Server) Stop(mode Mode) error {
	sig, ok := signals[mode]
	if !ok {
		return fmt.Errorf("pgtest: no shutdown mode %q", mode)
	}
	if err := s.process.Signal(sig); err != nil {
		return err
	}
	return s.process.WaitExit(stopWait)
}

// Kill ends the postmaster and all of its children by SIGKILL, frozen or not,
// and returns when they are gone. Start recovers from the log.
func (s *Server) Kill() error { return s.process.Kill() }

// Pause freezes every process of the server: connections stay open, new ones
// are accepted by the kernel, and nothing is answered.
func (s *Server) Pause() error { return s.process.Pause() }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.process.Resume() }

// DSN names a database of this server, over TCP. The database postgres exists
// from the start, others are the caller's to create.
func (s *Server) DSN(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.User(User),
		Host: "127.0.0.1:" + strconv.Itoa(s.port), Path: "/" + database, RawQuery: "sslmode=disable",
	}).String()
}

// SocketDSN names a database of this server, over its Unix socket.
func (s *Server) SocketDSN(database string) string {
	query := url.Values{"host": {s.folder}, "port": {strconv.Itoa(s.port)}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", User: url.User(User), Path: "/" + database, RawQuery: query.Encode()}).String()
}

// Log returns the end of the server's log, for messages.
func (s *Server) Log() string { return testserver.Tail(s.log()) }

// Close ends the server, however it stands, and removes its files.
func (s *Server) Close() error {
	var err error
	if s.process != nil {
		// An immediate shutdown gives back the shared memory segment.
		err = errors.Join(s.process.Resume(), s.process.Signal(unix.SIGQUIT))
		if s.process.WaitExit(stopWait) != nil {
			err = errors.Join(err, s.process.Kill())
		}
		s.removeSegment()
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}

// removeSegment removes the System V shared memory segment that a killed
// postmaster left behind: 56 bytes, but a machine has only 4096 of them. Its
// number stands in the seventh line of postmaster.pid, which only a server that
// was not shut down leaves. A failure is not worth a failed test.
func (s *Server) removeSegment() {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	var key, id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}
