package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
)

// childPath, when set, turns the test binary into a process that grants and
// writes in a loop until it is killed.
const (
	childPath = "S3FENCE_TEST_SQLITE_PATH"
	childName = "S3FENCE_TEST_SQLITE_NAME"
)

// child is called before any test runs.
func child() {
	path, name := os.Getenv(childPath), os.Getenv(childName)
	if path == "" {
		return
	}
	job := grantForEver
	if name == brokenDisk {
		job = commitToBrokenDisk
	}
	if err := job(path, name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// grantForEver draws a token, raises a mark and writes an object in each
// transaction, and prints "token key attempt id" once it was acknowledged.
func grantForEver(path, name string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	sc, err := fence.ParseScope("s3://crash/" + name + "/")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error)
	for range 3 {
		go func() {
			for {
				tx, o, tok := grantTx(sc)
				if err := state.Run(ctx, s, tx); err != nil {
					if !errors.Is(err, state.ErrBusy) {
						failed <- err
						return
					}
					continue
				}
				mu.Lock()
				fmt.Printf("%d %s %s %s\n", *tok, o.Key, o.Attempt, tx.ID)
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

func grantTx(sc fence.Scope) (*state.Tx, *state.Object, *fence.Token) {
	tok := new(fence.Token)
	o := &state.Object{
		Info:  object.Info{Ref: object.Ref{Bucket: sc.Bucket(), Key: sc.Prefix() + state.NewID().String()}},
		Scope: sc, Attempt: state.NewID(),
	}
	return &state.Tx{
		ID: state.NewID(), Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Keys: []object.Ref{o.Ref},
		Decide: func(v *state.View) (c state.Changes, err error) {
			if *tok, err = v.Draw(); err != nil {
				return c, err
			}
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token, o.Token, o.Modified = *tok, *tok, v.Now
			return state.Changes{Scopes: []state.Scope{row}, PutObjects: []state.Object{*o}}, nil
		},
	}, o, tok
}

// acknowledged is what a child printed before it died.
type acknowledged struct {
	token   fence.Token
	key     string
	attempt uuid.UUID
	tx      uuid.UUID
}

// F1, F2, F6: two processes grant and write on one file, are killed without
// warning, again and again. Nothing that was acknowledged is lost, and no token
// is granted twice, to whomever.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := migrated(t)
	var all []acknowledged
	for round := range 4 {
		var wg sync.WaitGroup
		lines := make([][]acknowledged, 2)
		for p := range lines {
			wg.Go(func() { lines[p] = runAndKill(t, path, fmt.Sprintf("p%d", p), 40+10*round) })
		}
		wg.Wait()
		for _, l := range lines {
			all = append(all, l...)
		}
		if t.Failed() {
			return
		}
	}
	s := open(t, path, sqlite.Options{})
	tokens, highest := map[fence.Token]bool{}, map[string]fence.Token{}
	for _, a := range all {
		require.False(t, tokens[a.token], "token %d was granted twice", a.token)
		tokens[a.token] = true
		dir, _, _ := strings.Cut(a.key, "/")
		highest[dir] = max(highest[dir], a.token)
		ref := object.Ref{Bucket: "crash", Key: a.key}
		v, err := s.Read(t.Context(), state.Query{Objects: []object.Ref{ref}})
		require.NoError(t, err)
		require.NotNil(t, v.Objects[ref], "an acknowledged write is lost: %+v", a)
		require.Equal(t, a.attempt, v.Objects[ref].Attempt)
		outcome, err := s.Resolve(t.Context(), a.tx)
		require.NoError(t, err)
		require.Equal(t, state.Committed, outcome)
	}
	top := fence.Token(0)
	for dir, tok := range highest {
		sc, err := fence.ParseScope("s3://crash/" + dir + "/")
		require.NoError(t, err)
		v, err := s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
		require.NoError(t, err)
		require.GreaterOrEqual(t, v.Scopes[sc].Mark.Token, tok)
		top = max(top, tok)
	}
	sc, err := fence.ParseScope("s3://crash/after/")
	require.NoError(t, err)
	tx, _, tok := grantTx(sc)
	require.NoError(t, state.Run(t.Context(), s, tx))
	require.Greater(t, *tok, top)
	t.Logf("%d acknowledged commits of 8 killed processes, all there", len(all))
}

// runAndKill kills a child after it printed some lines, and returns all that it
// printed.
func runAndKill(t *testing.T, path, name string, lines int) (got []acknowledged) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path, childName+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		a, err := parseLine(scanner.Text())
		if err != nil {
			break // the last line may be cut
		}
		got = append(got, a)
		if len(got) == lines {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(got) < lines {
		t.Errorf("%s printed %d lines and ended", name, len(got))
	}
	return got
}

func parseLine(line string) (a acknowledged, err error) {
	f := strings.Fields(line)
	if len(f) != 4 || len(f[3]) != 36 {
		return a, fmt.Errorf("cut line %q", line)
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return a, err
	}
	a.token, a.key = fence.Token(n), f[1]
	if a.attempt, err = uuid.Parse(f[2]); err != nil {
		return a, err
	}
	a.tx, err = uuid.Parse(f[3])
	return a, err
}
