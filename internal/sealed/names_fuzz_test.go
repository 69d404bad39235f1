package sealed

import (
	"testing"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
)

// FuzzName: a key that a store lists is a physical name only if it is, byte for byte,
// one that could have been made: the collector deletes by what it reads there.
func FuzzName(f *testing.F) {
	n := names{uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")}
	sc, err := fence.ParseScope("s3://data/jobs/")
	if err != nil {
		f.Fatal(err)
	}
	prefix := n.scopePrefix(sc)
	made := n.fresh(sc, 7, uuid.MustParse("123e4567-e89b-12d3-a456-426614174000")).Key
	f.Add(made)
	f.Add(prefix + "+000000007/123e4567-e89b-12d3-a456-426614174000")
	f.Add(prefix + "7/123E4567E89B12D3A456426614174000")
	f.Add(prefix + "0000000007/urn:uuid:123e4567-e89b-12d3-a456-426614174000")
	f.Add(prefix + "0000000007/{123e4567-e89b-12d3-a456-426614174000}")
	f.Add(prefix + "9223372036854775807/123e4567-e89b-12d3-a456-426614174000/x")
	f.Fuzz(func(t *testing.T, key string) {
		nm, ok := parseName(prefix, key)
		if !ok {
			return
		}
		if again := n.fresh(sc, nm.Epoch, nm.Attempt); again != nm || again.Key != key {
			t.Fatalf("%q reads as %+v, which is written %q", key, nm, again.Key)
		}
		if id, ok := attemptOf(key); !ok || id != nm.Attempt {
			t.Fatalf("the attempt of %q is %v", key, id)
		}
	})
}
