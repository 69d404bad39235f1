package locks

import (
	"strings"
	"time"
)

// instants are the forms of a slot that name one instant: a date, a time with or
// without seconds, and how far that clock is from UTC. RFC 3339 has them with a T or
// a space between the first two and a colon in the last; date writes the others,
// such as `date +%FT%T%z`.
var instants = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00",
	"2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z0700", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04Z0700",
	"2006-01-02 15:04:05 Z0700", "2006-01-02 15:04 Z0700",
}

// dates are forms that people mean a time by without saying whose clock. They
// stay the labels they are; it counts only how old they are, to a day.
var dates = []string{
	time.DateOnly, "2006-01", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04",
}

// CanonicalSlot is a slot's name as claims keep it, and the time it names; zero
// where it names none. A time that says its zone is written in UTC, as in RFC 3339
// and without the fraction's trailing zeros, so that schedulers in two time zones
// mean one slot; every other name stays as it is.
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
