package fence

import (
	"fmt"
	"strings"
	"time"
)

// Ago says how long ago something was, for messages: in one unit, and "just now"
// for what was less than a second ago or, by another clock, is still to come.
func Ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}

// Seconds is how long something still lasts, for messages: in whole seconds, at
// least one, without units that are zero: 1h0m0s is 1h.
func Seconds(d time.Duration) string {
	s := max(d.Round(time.Second), time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
