package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/s3fence/s3fence/internal/locks"
)

// aboutSlots is the part of a command's help that says what a slot may be.
const aboutSlots = `A slot is any label, such as build-4711. A time of RFC 3339 is taken in UTC, so that
2026-05-01T04:00:00+02:00 and 2026-05-01T02:00:00Z are one slot. A length such as
5m, 1h, 1d or 1w stands for the multiple of it, in UTC, that is nearest to now: for
jobs that start within less than half of it around those times, whatever the clocks
of their machines differ by. Other jobs name their time.`

var (
	// days and weeks, which time.ParseDuration does not know.
	daysOrWeeks = regexp.MustCompile(`^(\d{1,4})([dw])$`)
	// almostLength is what somebody meant a length by. As a label it would be one
	// slot for ever: a job that runs once and never again.
	almostLength = regexp.MustCompile(`(?i)^[+-]?\d+(\.\d+)? ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|mo|months?|y|years?)$`)
)

// slotOf reads a slot as it is typed. warning is for people, "" mostly: that now
// lies about half way between two slots.
func slotOf(text string, now time.Time) (slot, warning string, err error) {
	length, ok := lengthOf(text)
	switch {
	case text == "":
		return "", "", usage("the slot is empty; name the run that is to happen once: a time, a label, or a length such as 1h")
	case ok && length < time.Second:
		return "", "", usage("%q is too short for a slot; at least 1s", text)
	case !ok && almostLength.MatchString(text):
		return "", "", usage("%q looks like a length and is none; write it like 15m, 1h, 1d or 1w", text)
	case !ok:
		slot, _ = locks.CanonicalSlot(text)
		return slot, "", nil
	}
	now = now.UTC()
	// Multiples since the year 1, whose first day was a Monday: weeks begin there.
	at := now.Round(length)
	slot, _ = locks.CanonicalSlot(at.Format(time.RFC3339Nano))
	if off := now.Sub(at).Abs(); off > length*2/5 {
		warning = fmt.Sprintf("it is %s, about half way between two slots of %s: another machine may choose the other one. Name the slot's time instead",
			now.Format(time.TimeOnly), text)
	}
	return slot, warning, nil
}

// lengthOf reads a length, which begins with a digit and ends in a unit.
func lengthOf(text string) (time.Duration, bool) {
	if m := daysOrWeeks.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // four digits
		unit := 24 * time.Hour
		if m[2] == "w" {
			unit *= 7
		}
		return time.Duration(n) * unit, true
	}
	if text == "" || text[0] < '0' || text[0] > '9' || text[len(text)-1] <= '9' {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}
