package events

import (
	"context"
	"log/slog"
	"time"
)

// Log is an Observer that writes one line per event: alarms as errors, losses
// and refusals as warnings, renewals for debugging only (there are many), the
// rest as information. Empty fields are left out.
func Log(l *slog.Logger) Observer {
	return Func(func(ctx context.Context, e Event) {
		level := level(e.Kind)
		if !l.Enabled(ctx, level) {
			return
		}
		e.From(ctx)
		l.LogAttrs(ctx, level, string(e.Kind), attrs(e)...)
	})
}

func level(k Kind) slog.Level {
	switch k {
	case Alarm:
		return slog.LevelError
	case Refused, RenewLost, Takeover, Raised, Reset, Dropped:
		return slog.LevelWarn
	case Renewed:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func attrs(e Event) []slog.Attr {
	out := make([]slog.Attr, 0, 16)
	text := func(name, v string) {
		if v != "" {
			out = append(out, slog.String(name, v))
		}
	}
	text("scope", e.Scope.String())
	text("bucket", e.Bucket)
	text("key", e.Key)
	text("guard", e.Guard)
	if e.Token != 0 {
		out = append(out, slog.Int64("token", int64(e.Token)))
	}
	if e.Highest != 0 {
		out = append(out, slog.Int64("highest", int64(e.Highest)))
	}
	text("holder", e.Holder)
	text("owner", e.Owner)
	text("previous", e.Previous)
	text("access_key", e.AccessKey)
	text("remote", e.Remote)
	text("operation", e.Operation)
	text("request_id", e.RequestID)
	text("code", e.Code)
	if e.After != 0 {
		out = append(out, slog.Duration("after", e.After.Round(time.Millisecond)))
	}
	text("reason", e.Reason)
	if !e.Time.IsZero() {
		out = append(out, slog.Time("at", e.Time))
	}
	return out
}
