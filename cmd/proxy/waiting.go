package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

// sayWaiting tells people how waiting for a lock goes, on standard error.
func sayWaiting(c *cobra.Command) func(client.Wait) {
	return func(w client.Wait) { say(c, "%s", waitText(w)) }
}

func waitText(w client.Wait) string {
	if w.Trouble != nil {
		return fmt.Sprintf("waiting for %s: %v; asking again, for %s at most", w.Scope, w.Trouble, seconds(w.Left))
	}
	why := "it is kept for those who came before"
	switch {
	case w.Delay > 0:
		why = fmt.Sprintf("granted to nobody for %s more: its last lease ran out, and the guard has a lock_delay", seconds(w.Delay))
	case w.Holder != nil:
		why = fmt.Sprintf("held by %s for %s more", cmp.Or(w.Holder.Owner, w.Holder.AccessKey), seconds(w.Holder.ExpiresIn))
	}
	s := fmt.Sprintf("waiting for %s: %s", w.Scope, why)
	switch {
	case w.Position == 1 && w.Waiting == 1:
		s += "; you are next"
	case w.Position == 1:
		s += fmt.Sprintf("; you are next of %d", w.Waiting)
	case w.Position > 1:
		s += fmt.Sprintf("; you are %s of %d", ordinal(w.Position), w.Waiting)
	}
	return s
}

// seconds is a duration in whole seconds, at least one, without units that are
// zero: 1h0m0s is 1h.
func seconds(d time.Duration) string {
	s := max(d.Round(time.Second), time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func ordinal(n int) string {
	suffix := "th"
	switch {
	case n/10%10 == 1:
	case n%10 == 1:
		suffix = "st"
	case n%10 == 2:
		suffix = "nd"
	case n%10 == 3:
		suffix = "rd"
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

// waiterOut is somebody who waits, as --json prints it.
type waiterOut struct {
	AccessKey string    `json:"access_key"`
	Owner     string    `json:"owner"`
	Since     time.Time `json:"since"`
}

func waitersOut(list []client.Waiter) []waiterOut {
	var out []waiterOut
	for _, w := range list {
		out = append(out, waiterOut{w.AccessKey, w.Owner, w.Since})
	}
	return out
}

// waiterRows are who waits for one scope, for a table of names and values.
func waiterRows(sc client.Scope) [][]string {
	rows := [][]string{{"waiting", number(int64(sc.Queue))}}
	for i, w := range sc.Waiters {
		rows = append(rows, []string{"  " + ordinal(i+1), fmt.Sprintf("%s (%s), since %s", orDash(w.Owner), w.AccessKey, w.Since.Local().Format(time.DateTime))})
	}
	if more := sc.Queue - len(sc.Waiters); more > 0 && len(sc.Waiters) > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("and %d more", more)})
	}
	return rows
}

// nextInLine is the first who waits, short.
func nextInLine(sc client.Scope) string {
	if len(sc.Waiters) == 0 {
		return "-"
	}
	w := sc.Waiters[0]
	return fmt.Sprintf("%s since %s", cmp.Or(w.Owner, w.AccessKey), w.Since.Local().Format(time.TimeOnly))
}
