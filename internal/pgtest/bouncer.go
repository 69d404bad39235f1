package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/testserver"
)

// Bouncer starts a PgBouncer in transaction pooling mode in front of the
// server that dsn names and returns the DSN of the same database through it. It
// ends with the test. A missing PgBouncer fails the test.
//
// Transaction pooling hands every transaction to whichever server connection is
// free: session state (advisory session locks, SET, LISTEN, prepared statements
// by name) is lost or, worse, somebody else's. PgBouncer before 1.21 does not
// follow prepared statements: pgx needs an exec mode that names none.
func Bouncer(t testing.TB, dsn string) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		// Debian's folder for it is in root's PATH only.
		path = "/usr/sbin/pgbouncer"
	}
	if !executable(path) {
		t.Fatal("pgtest: neither PATH nor /usr/sbin holds pgbouncer: install the Debian package pgbouncer")
	}
	target, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("pgtest: PgBouncer's target: %v", err)
	}
	folder, err := testserver.Folder("bouncer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	for range startTries {
		port, process := launchBouncer(t, path, folder, target)
		t.Cleanup(func() {
			if err := process.Kill(); err != nil {
				t.Error(err)
			}
		})
		through, err := url.Parse(dsn)
		if err != nil {
			t.Fatalf("pgtest: PgBouncer's target: %v", err)
		}
		through.Host = "127.0.0.1:" + strconv.Itoa(port)
		err = bouncerReady(process, through.String())
		if err == nil {
			return through.String()
		}
		if !strings.Contains(process.Log(), "Address already in use") {
			t.Fatal(err)
		}
	}
	t.Fatalf("pgtest: PgBouncer found no free port in %d tries", startTries)
	return ""
}

func launchBouncer(t testing.TB, path, folder string, target *pgx.ConnConfig) (int, *testserver.Process) {
	t.Helper()
	cred, err := testserver.Unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
server_login_retry = 1
`, target.Host, target.Port, port, filepath.Join(folder, "users"))
	users := fmt.Sprintf("%q %q\n", target.User, target.Password)
	for name, text := range map[string]string{"pgbouncer.ini": configuration, "users": users} {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := testserver.Own(file); err != nil {
			t.Fatal(err)
		}
	}
	process, err := testserver.Launch(testserver.Spec{
		Name: "PgBouncer", Path: path, Args: []string{filepath.Join(folder, "pgbouncer.ini")},
		Env: []string{"LC_ALL=C", "TZ=UTC"}, Dir: folder, Log: filepath.Join(folder, "log"), Credential: cred,
	})
	if err != nil {
		t.Fatal(err)
	}
	return port, process
}

// bouncerReady waits until a query goes through.
func bouncerReady(process *testserver.Process, dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	for {
		// The simple protocol names no statement.
		err := ping(ctx, dsn+"&default_query_exec_mode=simple_protocol")
		switch {
		case err == nil:
			return nil
		case !process.Alive():
			return fmt.Errorf("pgtest: PgBouncer ended while starting; its log ends:\n%s", process.Log())
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("pgtest: PgBouncer does not answer within %v: %w; its log ends:\n%s", readyWait, err, process.Log()))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
