package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/s3api"
)

// In a host name Data is data: a bucket must have one name, or a guard on it
// does not see writes under the other.
func TestCapitalsAreNoNameOfABucketByHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for pathStyle, want := range map[string]error{"true": nil, "false": s3api.ErrNoSuchBucket} {
		c := w.config(t, "S3FENCE_UPSTREAMS__MAIN__PATH_STYLE="+pathStyle)
		c.Buckets = nil
		b, err := bucketsOf(c)
		require.NoError(t, err)
		t.Cleanup(b.close)
		_, _, err = b.Bucket("data")
		require.NoError(t, err)
		_, _, err = b.Bucket("Data")
		require.ErrorIs(t, err, want)
	}
}
