package locks

import (
	"strings"
	"time"
)

// instants are the forms of a slot that name one instant: those of RFC 3339, and
// the same without seconds, as `date +%FT%H:%MZ` writes it.
var instants = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"}

// dates are forms that people mean a time by without saying whose clock. They
// stay the labels they are; it counts only how old they are, to a day.
var dates = []string{
	time.DateOnly, "2006-01", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z0700",
}

// CanonicalSlot is a slot's name as claims keep it, and the time it names; zero
// where it names none. A time of RFC 3339 is written in UTC, without the fraction's
// trailing zeros, so that schedulers in two time zones mean one slot; every other
// name stays as it is.
func CanonicalSlot(name string) (string, time.Time) {
	// Times of RFC 3339 may be written in small letters.
	upper := strings.ToUpper(name)
	for _, form := range instants {
		if t, err := time.Parse(form, upper); err == nil {
			return t.UTC().Format(time.RFC3339Nano), t.UTC()
		}
	}
	for _, form := range dates {
		if t, err := time.Parse(form, upper); err == nil {
			return name, t.UTC()
		}
	}
	return name, time.Time{}
}
