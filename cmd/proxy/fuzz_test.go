package main

import (
	"errors"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/locks"
)

// FuzzWords reads slots and times as people type them. What is refused is a usage
// error; one time in two spellings is one slot; a length is the multiple of it nearest
// to now, the same a moment later; and no duration lies ahead.
func FuzzWords(f *testing.F) {
	for _, s := range []string{
		"1h", "15m", "1d", "2w", "0d", "9999w", "1 hour", "nightly", "2026-05-01T04:00:00+02:00", "2026-05-01t02:00:00,5z", "0000-01-01T00:00:00+01:00",
		"9999-12-31T23:59:59-01:00", "7d", "7d12h", "+1d", "1d-1h", "36501d", "106751991167300d", "2562047h47m16.854775807s", "1e9s", "",
	} {
		f.Add(s, int64(1_800_000_000_123_456_789))
	}
	f.Fuzz(func(t *testing.T, text string, nanoseconds int64) {
		now := time.Unix(0, nanoseconds)
		slot, _, err := slotOf(text, now)
		if _, isUsage := errors.AsType[*usageError](err); err != nil && !isUsage {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil {
			again, at := locks.CanonicalSlot(slot)
			if slot == "" || again != slot {
				t.Fatalf("%q is the slot %q, which is the slot %q", text, slot, again)
			}
			if length, ok := lengthOf(text); ok {
				if off := now.Sub(at).Abs(); off > length/2+1 {
					t.Fatalf("%q at %v is %v, %v off", text, now.UTC(), at, off)
				}
			}
			if want, bad := time.Parse(time.RFC3339Nano, text); bad == nil {
				if here, _, err := slotOf(want.In(time.FixedZone("", 5*3600)).Format(time.RFC3339Nano), now); err != nil || here != slot && want.Year() > 0 && want.Year() < 9999 {
					t.Fatalf("%q is %q, and %q five hours to the east", text, slot, here)
				}
			}
		}
		since, err := sinceOf(text, now)
		if _, isUsage := errors.AsType[*usageError](err); err != nil && !isUsage {
			t.Fatalf("%q: %v", text, err)
		}
		if _, bad := time.Parse(time.RFC3339, text); err == nil && bad != nil && since.After(now) {
			t.Fatalf("%q before %v is %v", text, now, since)
		}
	})
}
