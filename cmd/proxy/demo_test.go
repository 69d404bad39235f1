package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The commands that demo recommends exist; its workers are nobody's business.
func TestDemoRecommendsWhatThereIs(t *testing.T) {
	t.Parallel()
	found := 0
	for _, line := range next {
		assert.LessOrEqual(t, len(line), 64, line)
		typed, ok := strings.CutPrefix(line, "  s3fence ")
		if !ok {
			continue
		}
		found++
		c, _, err := newRoot().Find(strings.Fields(typed))
		require.NoError(t, err)
		assert.False(t, c.HasSubCommands(), "%s: there is no such command below %s", line, c.CommandPath())
	}
	assert.Positive(t, found)

	help := call(t, t.TempDir(), nil, "--help")
	assert.Contains(t, help.out, "  demo ")
	assert.NotContains(t, help.out, "demo-worker")
	for _, ttl := range []string{"0s", "999ms", "31s"} {
		assert.Equal(t, exitUsage, call(t, t.TempDir(), nil, "demo", "--ttl", ttl).code, ttl)
	}
}
