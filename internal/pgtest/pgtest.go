package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Environment names the variable that holds the DSN (a URL) of a server to
// share, on which this process may create databases. Without it each test
// process starts a server of its own when the first test asks.
const Environment = "S3FENCE_TEST_POSTGRES"

// createWait bounds the creation and the removal of a test's database.
const createWait = 60 * time.Second

// shared returns the DSN of the shared server's database postgres.
var shared = sync.OnceValues(func() (string, error) {
	if dsn := os.Getenv(Environment); dsn != "" {
		if u, err := url.Parse(dsn); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return "", fmt.Errorf("pgtest: %s must be a URL like postgres://user@127.0.0.1:5432/postgres", Environment)
		}
		return dsn, nil
	}
	// Never closed: it ends with the process.
	server, err := Open(Options{})
	if err != nil {
		return "", err
	}
	return server.DSN("postgres"), nil
})

// DSN returns the DSN of a fresh, empty database on the shared server, for this
// test alone. The database is dropped, and connections to it are ended, when the
// test ends. The shared server keeps fsync off and allows 300 connections over
// all tests that run at once: keep pools small, and take [Start] for a server to
// be hurt or measured.
func DSN(t testing.TB) string {
	t.Helper()
	admin, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d_%s", os.Getpid(), strings.ToLower(rand.Text()[:10]))
	// template0 is never connected to, so several can copy it at once.
	if err := execute(admin, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatalf("pgtest: create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: drop the test's database: %v", err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("pgtest: the shared server's DSN: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

// Start starts a server for this test alone. It is ended and removed when the
// test ends.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	server, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL's log ends:\n%s", server.Log())
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// execute runs one statement on a connection of its own.
func execute(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), createWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement's answer is in hand
	_, err = conn.Exec(ctx, sql)
	return err
}
