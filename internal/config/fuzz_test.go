package config

import (
	"testing"
	"time"
)

// FuzzDuration: what is read as a duration is none below zero, is written so that it
// reads the same, and is what the time package says where it knows the form.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"30s", "1d", "1d12h", "0", "36500d", "36501d", "-1s", "1d-1h", "106751d23h47m16.854775807s", "1.5h", "d", "+1d", "1dd", "9223372036854775807ns", "1d9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text)
		theirs, theirErr := time.ParseDuration(text)
		switch {
		case err != nil && theirErr == nil && theirs >= 0:
			t.Fatalf("%q is refused: %v", text, err)
		case err != nil:
			return
		case d < 0:
			t.Fatalf("%q is %v", text, d)
		case theirErr == nil && theirs != d:
			t.Fatalf("%q is %v, not %v", text, d, theirs)
		}
		if again, err := parseDuration(writeDuration(d)); err != nil || again != d {
			t.Fatalf("%q is %v, written %q, read %v, %v", text, d, writeDuration(d), again, err)
		}
	})
}
