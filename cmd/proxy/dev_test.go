package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// dev has a key that everybody knows: an address that is none must not become
// every address of the machine.
func TestDevListensWhereItIsTold(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", "9000", "127.0.0.1", "127.0.0.1:"} {
		r := call(t, t.TempDir(), nil, "dev", "--listen", listen)
		assert.Equal(t, exitUsage, r.code, listen)
		assert.Contains(t, r.err, "--listen", listen)
	}
}
