package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

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

// quietTime is the least time between two lines of one kind about requests that
// nobody vouches for, beyond the first.
const quietTime = 10 * time.Second

// quiet logs what strangers can make happen at will: of each kind one line at once,
// and then one for every quietTime, which counts the others.
type quiet struct {
	log   *slog.Logger
	every time.Duration

	mu    sync.Mutex
	kinds map[string]*hushed
}

// hushed is one kind after a line of it.
type hushed struct {
	more int64
	last []slog.Attr
}

func newQuiet(log *slog.Logger) *quiet {
	return &quiet{log: log, every: quietTime, kinds: map[string]*hushed{}}
}

// tell logs or counts. kinds must be few: they are kept in memory while they go on.
func (q *quiet) tell(level slog.Level, kind string, attrs []slog.Attr) {
	q.mu.Lock()
	if k := q.kinds[kind]; k != nil {
		k.more++
		k.last = attrs
		q.mu.Unlock()
		return
	}
	q.kinds[kind] = &hushed{}
	q.mu.Unlock()
	q.log.LogAttrs(context.Background(), level, kind, attrs...)
	time.AfterFunc(q.every, func() { q.sum(level, kind) })
}

// sum logs what was counted; a kind that has ended is forgotten.
func (q *quiet) sum(level slog.Level, kind string) {
	q.mu.Lock()
	k := q.kinds[kind]
	if k.more == 0 {
		delete(q.kinds, kind)
		q.mu.Unlock()
		return
	}
	attrs := append([]slog.Attr{slog.Int64("times", k.more), slog.Duration("within", q.every)}, k.last...)
	k.more, k.last = 0, nil
	q.mu.Unlock()
	q.log.LogAttrs(context.Background(), level, kind+", more of them; this is the last", attrs...)
	time.AfterFunc(q.every, func() { q.sum(level, kind) })
}

// connection logs connections that were refused or displaced.
func (q *quiet) connection(remote net.Addr, why string) {
	q.tell(slog.LevelWarn, why, []slog.Attr{slog.String("remote", remote.String())})
}

// answered logs requests: those that the proxy or a store failed as warnings,
// all others for debugging only. Refusals of the fence are events, and logged as
// such. Requests without a good signature, and those that were too many, anybody
// can send as many of as he likes: they are summed up, unless all requests are
// logged for debugging.
func (q *quiet) answered(ctx context.Context, r *s3api.Record) {
	level, summed := slog.LevelDebug, ""
	switch {
	case r.Code == "SlowDown":
		level, summed = slog.LevelWarn, "requests are told to slow down"
	case r.Status >= 500 && r.Status != http.StatusNotImplemented:
		level = slog.LevelWarn
	case r.AccessKey == "" && r.Status >= 400:
		level, summed = slog.LevelInfo, "requests without a valid signature are refused"
	}
	if !q.log.Enabled(ctx, level) {
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
	if summed != "" && !q.log.Enabled(ctx, slog.LevelDebug) {
		q.tell(level, summed, attrs)
		return
	}
	q.log.LogAttrs(ctx, level, "request", attrs...)
}
