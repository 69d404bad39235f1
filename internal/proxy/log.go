package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/s3api"
)

// NewLogger makes the logger that a configuration asks for.
func NewLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// answered logs requests: those that the proxy or a store failed as warnings,
// all others for debugging only. Refusals of the fence are events, and logged as
// such.
func answered(log *slog.Logger) func(context.Context, *s3api.Record) {
	return func(ctx context.Context, r *s3api.Record) {
		level := slog.LevelDebug
		// 501 is what anybody can ask for, without a signature too.
		if r.Status >= 500 && r.Status != http.StatusNotImplemented {
			level = slog.LevelWarn
		}
		if !log.Enabled(ctx, level) {
			return
		}
		attrs := make([]slog.Attr, 0, 15)
		text := func(name, v string) {
			if v != "" {
				attrs = append(attrs, slog.String(name, v))
			}
		}
		text("operation", r.Operation)
		attrs = append(attrs, slog.Int("status", r.Status))
		text("code", r.Code)
		text("bucket", r.Bucket)
		text("key", r.Key)
		text("access_key", r.AccessKey)
		text("session", r.Session)
		text("scope", r.Scope.String())
		if r.Token != 0 {
			attrs = append(attrs, slog.Int64("token", int64(r.Token)))
		}
		attrs = append(attrs, slog.Int64("in", r.BytesIn), slog.Int64("out", r.BytesOut), slog.Duration("took", r.Duration))
		text("remote", r.Remote)
		text("request_id", r.RequestID)
		log.LogAttrs(ctx, level, "request", attrs...)
	}
}
