package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		now, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return now
	}
	for _, tc := range []struct {
		name, text, now, want string
		warns                 bool
	}{
		{"label", "build-4711", "2026-05-01T02:00:00Z", "build-4711", false},
		{"number", "0", "2026-05-01T02:00:00Z", "0", false},
		{"number with a dot", "1.5", "2026-05-01T02:00:00Z", "1.5", false},
		{"date", "2026-05-01", "2026-05-01T02:00:00Z", "2026-05-01", false},
		{"time in UTC", "2026-05-01T02:00:00Z", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time elsewhere", "2026-05-01T04:00:00+02:00", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time with zeros", "2026-05-01t02:00:00.000z", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time without seconds", "2026-05-01T04:00+02:00", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time of date --rfc-3339", "2026-05-01 04:00:00+02:00", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time of date %T%z", "2026-05-01T04:00:00+0200", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time of date %R %z", "2026-05-01 04:00 +0200", "2030-01-01T00:00:00Z", "2026-05-01T02:00:00Z", false},
		{"time of nobody's clock", "2026-05-01 04:00", "2030-01-01T00:00:00Z", "2026-05-01 04:00", false},
		{"length, on time", "5m", "2026-05-01T02:05:00Z", "2026-05-01T02:05:00Z", false},
		{"length, late", "5m", "2026-05-01T02:06:59Z", "2026-05-01T02:05:00Z", false},
		// Truncated, a clock that is a second behind would name the slot before.
		{"length, early", "5m", "2026-05-01T02:04:59.9Z", "2026-05-01T02:05:00Z", false},
		{"length, early, local", "1h", "2026-05-01T03:59:58+02:00", "2026-05-01T02:00:00Z", false},
		{"length, half way", "1h", "2026-05-01T02:30:01Z", "2026-05-01T03:00:00Z", true},
		{"length, half way before", "1h", "2026-05-01T02:29:59Z", "2026-05-01T02:00:00Z", true},
		{"mixed length", "1h30m", "2026-05-01T03:01:00Z", "2026-05-01T03:00:00Z", false},
		{"day", "1d", "2026-04-30T23:58:00Z", "2026-05-01T00:00:00Z", false},
		{"week, from Monday on", "1w", "2026-05-04T00:00:09Z", "2026-05-04T00:00:00Z", false},
		{"not a length", "5mm", "2026-05-01T02:00:00Z", "5mm", false},
		{"hash", "7fd3c21", "2026-05-01T02:00:00Z", "7fd3c21", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			slot, warning, err := slotOf(tc.text, at(tc.now))
			require.NoError(t, err)
			assert.Equal(t, tc.want, slot)
			assert.Equal(t, tc.warns, warning != "", warning)
		})
	}
	for _, text := range []string{"", "15min", "15 min", "2days", "1y", "1 month", "-5m", "+5m", "500ms", "0s", "0d", "1H", "5M"} {
		t.Run("refused "+text, func(t *testing.T) {
			t.Parallel()
			_, _, err := slotOf(text, at("2026-05-01T02:00:00Z"))
			assert.Equal(t, exitUsage, exitCode(err), "%v", err)
		})
	}
}
