package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
)

// brokenDisk is the child whose disk takes nothing for a while.
const brokenDisk = "broken-disk"

// F7: a COMMIT that the disk refuses is unknown, and then what Resolve says,
// which is what stands in the file. The limit holds for a whole process, so it
// is a process of its own.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+migrated(t), childName+"="+brokenDisk)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}

func commitToBrokenDisk(path, _ string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	sc, err := fence.ParseScope("s3://data/jobs/")
	if err != nil {
		return err
	}
	first, _, before := grantTx(sc)
	if err := state.Run(ctx, s, first); err != nil {
		return err
	}

	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		return err
	}
	lost, _, drawn := grantTx(sc)
	err = s.Transact(ctx, lost)
	if err == nil {
		return errors.New("the disk took what it should have refused")
	}
	if !errors.Is(err, state.ErrUnknown) {
		return fmt.Errorf("a refused COMMIT is unknown, not: %w", err)
	}
	fmt.Println(err)
	if _, rerr := s.Resolve(ctx, lost.ID); !errors.Is(rerr, state.ErrUnavailable) {
		return fmt.Errorf("no verdict can be had while the disk refuses: %w", rerr)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}

	verdict, err := s.Resolve(ctx, lost.ID)
	if err != nil {
		return err
	}
	v, err := s.Read(ctx, state.Query{Scopes: []fence.Scope{sc}})
	if err != nil {
		return err
	}
	want := *before
	if verdict == state.Committed {
		want = *drawn
	}
	if mark := v.Scopes[sc].Mark.Token; mark != want {
		return fmt.Errorf("the verdict is %d and the mark %d, not %d", verdict, mark, want)
	}
	next, _, after := grantTx(sc)
	if err := state.Run(ctx, s, next); err != nil {
		return err
	}
	if *after <= want {
		return fmt.Errorf("token %d was granted after %d", *after, want)
	}
	return nil
}
