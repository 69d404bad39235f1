package edge

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Defaults of [Limits].
const (
	DefaultConnections = 4096
	DefaultPerAddress  = 1024
	DefaultHeaderBytes = 64 << 10
	DefaultHeaders     = 200
	DefaultHeaderTime  = 20 * time.Second
	// DefaultIdleTime is above that of the clients' pools, so that it is they who
	// close.
	DefaultIdleTime = 2 * time.Minute
	DefaultStall    = 60 * time.Second
	// DefaultMinRate is what Apache's mod_reqtimeout asks of bodies by default; a
	// modem is ten times faster.
	DefaultMinRate = 500
	// DefaultLinger is long enough for some MiB over a slow line.
	DefaultLinger = 5 * time.Second
)

// Limits bound connections. Zero values stand for the defaults, but for PerAddress
// and MinRate, of which zero means that there is no such bound.
type Limits struct {
	// Connections at one time in all, and from one address (of IPv6, from one /64).
	Connections, PerAddress int
	// HeaderBytes is for the request line and all headers of a request, Headers is
	// how many lines of them there may be.
	HeaderBytes, Headers int
	// HeaderTime bounds the TLS handshake, and the arrival of a request's header;
	// IdleTime the time between two requests.
	HeaderTime, IdleTime time.Duration
	// Stall is how long a client may be waited for within a body or an answer,
	// MinRate how many bytes win a second of that back.
	Stall   time.Duration
	MinRate int64
	// Linger is how long the rest of a body is taken and thrown away that nobody
	// wants, so that the client can read why. By default no longer than Stall.
	Linger time.Duration
	// Refused is told of connections that were refused or that made room for
	// another. It must not block.
	Refused func(remote net.Addr, why string)
}

func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(l.Connections, DefaultConnections)
	l.HeaderBytes = cmp.Or(l.HeaderBytes, DefaultHeaderBytes)
	l.Headers = cmp.Or(l.Headers, DefaultHeaders)
	l.HeaderTime = cmp.Or(l.HeaderTime, DefaultHeaderTime)
	l.IdleTime = cmp.Or(l.IdleTime, DefaultIdleTime)
	l.Stall = cmp.Or(l.Stall, DefaultStall)
	l.Linger = cmp.Or(l.Linger, min(DefaultLinger, l.Stall))
	return l
}

// NewServer makes an HTTP/1.1 server for h within the limits. It is to serve
// [Listener]s, directly or below TLS.
func NewServer(h http.Handler, l Limits, log *slog.Logger) *http.Server {
	l = l.withDefaults()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: Handler(h, l), Protocols: protocols, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: l.HeaderTime, IdleTimeout: l.IdleTime,
		// net/http adds 4 KiB of its own to this.
		MaxHeaderBytes: l.HeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext:    withConn, ConnState: track,
	}
}

// Handler puts everything in front of h that the edge does to a request.
func Handler(h http.Handler, l Limits) http.Handler {
	l = l.withDefaults()
	return bodies(full(expectContinue(shape(h, l))), l)
}

// track follows what net/http does with a connection.
func track(c net.Conn, s http.ConnState) {
	conn := below(c)
	if conn == nil {
		return
	}
	switch s {
	case http.StateActive:
		conn.table.works(conn)
	case http.StateIdle:
		// What comes next may be refused by net/http, unread.
		conn.lingers.Store(true)
		conn.waits()
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

// full answers on connections that are too many.
func full(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if connOf(r).over {
			w.Header().Set("Connection", "close")
			refuse(w, r, http.StatusServiceUnavailable, "SlowDown", "There are too many connections at the moment. Send the request again later.")
			return
		}
		next.ServeHTTP(w, r)
	})
}
