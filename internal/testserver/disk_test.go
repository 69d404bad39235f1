package testserver_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/testserver"
)

func TestDiskIsFullAndFreeAgain(t *testing.T) {
	t.Parallel()
	servers, err := testserver.Unprivileged()
	require.NoError(t, err)
	for name, cred := range map[string]*syscall.Credential{"own": nil, "servers": servers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := testserver.OpenDisk(1<<20, cred)
			if errors.Is(err, testserver.ErrNoDisk) {
				t.Skip(err)
			}
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			require.NoError(t, d.Fill(64<<10))
			if cred == nil {
				require.NoError(t, os.WriteFile(d.Outside("fits"), make([]byte, 32<<10), 0o600))
				require.ErrorIs(t, os.WriteFile(d.Outside("large"), make([]byte, 64<<10), 0o600), syscall.ENOSPC)
				require.NoError(t, d.Free())
				require.NoError(t, os.WriteFile(d.Outside("large"), make([]byte, 64<<10), 0o600))
			}
			require.NoError(t, d.Fill(0))
			require.NoError(t, d.Free())
			require.NoError(t, d.Free())
		})
	}
}
