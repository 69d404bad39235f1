package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func started(t *testing.T, script string) (p *process, lines chan string, changes chan change) {
	t.Helper()
	lines, changes = make(chan string, 16), make(chan change, 16)
	p, err := launch("sh", "/bin/sh", []string{"-c", script}, t.TempDir(), func(l string) { lines <- l }, func(c change) { changes <- c })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.end()) })
	return p, lines, changes
}

func within[T any](t *testing.T, c chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came within 30 s")
	}
	return v
}

// What the kernel says of a process is what the story rests on.
func TestProcessChanges(t *testing.T) {
	t.Parallel()
	p, lines, changes := started(t, `echo ready; read line; echo "got $line"`)
	assert.Equal(t, "ready", within(t, lines))
	require.NoError(t, p.signal(unix.SIGSTOP))
	assert.Equal(t, change{step: stopped}, within(t, changes))
	_, err := p.in.WriteString("word\n")
	require.NoError(t, err)
	require.NoError(t, p.signal(unix.SIGCONT))
	assert.Equal(t, "got word", within(t, lines))
	assert.Equal(t, change{ended, "exit code 0"}, within(t, changes))
	require.ErrorIs(t, p.signal(unix.SIGKILL), errGone)
}

func TestProcessEnds(t *testing.T) {
	t.Parallel()
	_, _, changes := started(t, `echo first >&2; echo last >&2; exit 3`)
	assert.Equal(t, change{ended, "exit code 3; its last words: first / last"}, within(t, changes))

	p, lines, changes := started(t, `trap '' TERM INT; echo ready; while :; do sleep 1; done`)
	within(t, lines)
	require.NoError(t, p.signal(unix.SIGSTOP))
	assert.Equal(t, change{step: stopped}, within(t, changes))
	require.NoError(t, p.end(), "a frozen process is ended")
	assert.Equal(t, "SIGKILL", within(t, changes).text)

	_, err := launch("nothing", "/nonexistent", nil, t.TempDir(), nil, nil)
	require.ErrorContains(t, err, "starting nothing")
}
