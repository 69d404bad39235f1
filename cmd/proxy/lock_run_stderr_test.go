package main

import (
	"bufio"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Messages that go nowhere, since a pager or a terminal stands still (Ctrl-S), do not
// keep a command from being ended when its lock is lost.
func TestLockRunMessagesStuck(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	out, in, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()
	defer in.Close()
	size, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, 4096)
	require.NoError(t, err)
	r := p.prepare(nil, "lock", "run", "--ttl", "1s", "s3://demo/jobs/", "--", "sh", "-c", untilTouched)
	r.cmd.Stderr = in
	r.run()
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "is yours")
	require.Zero(t, reader.Buffered())
	r.says(&r.out, "started")
	_, err = in.WriteString(strings.Repeat("x", size))
	require.NoError(t, err)
	require.Equal(t, 0, p.cli("lock", "take", "s3://demo/jobs/", "--reason", "test").code)
	require.Eventually(t, func() bool { return len(r.processes()) <= 1 }, patience, 5*time.Millisecond, "the command runs on without the lock")
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	assert.Equal(t, 76, r.await())
}
