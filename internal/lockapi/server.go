package lockapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gorilla/mux"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
)

// Prefix is where the API stands; no bucket can have that name.
const Prefix = "/-/v1/"

// Bounds of a call.
const (
	maxBody = 64 << 10
	// callTime bounds a call, guardTime one that adds or removes a guard: it may
	// wait for a lease and for the copying of what exists.
	callTime  = 30 * time.Second
	guardTime = 10 * time.Minute
	// exportTime bounds an export, which writes every object of a guard.
	exportTime = 24 * time.Hour
)

// Locks is the lock service; *locks.Service is one.
type Locks interface {
	Acquire(ctx context.Context, r locks.Request) (locks.Lease, error)
	Take(ctx context.Context, r locks.Request, reason string) (locks.Lease, error)
	Renew(ctx context.Context, sc fence.Scope, token fence.Token, holder string, ttl time.Duration) (locks.Lease, error)
	ReleaseOnce(ctx context.Context, sc fence.Scope, token fence.Token, holder string, retry *idempotency.Request) error
	List(ctx context.Context, prefix, after string, limit int) (page []locks.Status, more bool, err error)
	Check(ctx context.Context, sc fence.Scope, generation fence.Generation, token fence.Token) (fence.Mark, error)
	Raise(ctx context.Context, sc fence.Scope, to fence.Token, accessKey, reason string, retry *idempotency.Request) (fence.Mark, error)
	Reset(ctx context.Context, sc fence.Scope, accessKey, reason string, retry *idempotency.Request) (fence.Mark, error)
	Claim(ctx context.Context, r locks.ClaimRequest) (state.Claim, error)
	Answered(ctx context.Context, named *idempotency.Request) (answer []byte, found bool, err error)
	Remember(ctx context.Context, named *idempotency.Request, answer []byte) error
	Claims(ctx context.Context, job, before string, limit int) (page []state.Claim, more bool, err error)
}

// Guards changes the guard list; *guards.Admin is one.
type Guards interface {
	List(ctx context.Context) ([]fence.Guard, error)
	Add(ctx context.Context, g fence.Guard) (fence.Guard, error)
	Set(ctx context.Context, p fence.Pattern, c guards.Change) (fence.Guard, error)
	Remove(ctx context.Context, p fence.Pattern) error
	Export(ctx context.Context, p fence.Pattern, o guards.ExportOptions) (guards.Exported, error)
}

// Events reads the event log; *eventlog.Log does.
type Events interface {
	List(ctx context.Context, q eventlog.Query) (state.EventPage, error)
}

// Principals finds who an access key acts as; *session.Ring is one.
type Principals interface {
	Principal(ctx context.Context, accessKey, sessionToken string) (*auth.Principal, error)
}

// Sessions makes credentials that carry a token; *session.Ring is one.
type Sessions interface {
	Issue(who *auth.Principal, sc fence.Scope, g fence.Generation, t fence.Token) (session.Credentials, error)
}

// Options are what the API stands on; all but Stranger, Unverified and
// Logger are required.
type Options struct {
	Verifier   *sigv4.Verifier
	Principals Principals
	Sessions   Sessions
	Locks      Locks
	Guards     Guards
	Events     Events
	// Stranger, where set, is called before a call is refused that nobody has signed;
	// the answer waits for it.
	Stranger func(*http.Request)
	// Unverified, where set, is called before the body of a call is read whose signature
	// cannot be verified without it, and what it returns, once that is done; and
	// before a call is answered that needs no signature.
	Unverified func(*http.Request) (over func())
	// Logger is told of internal errors; slog.Default() where nil.
	Logger *slog.Logger
}

type server struct {
	Options
}

// call is one signed request.
type call struct {
	*http.Request
	principal *auth.Principal
	body      []byte
	// key is the Idempotency-Key, "" for none.
	key string
	// lines is where an answer of several lines goes.
	lines *lines
}

// New makes the handler of everything under [Prefix].
func New(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &server{o}
	r := mux.NewRouter().SkipClean(true).UseEncodedPath()
	for _, route := range s.routes() {
		r.Handle(Prefix+route.path, s.handle(route)).Methods(route.method)
	}
	r.NotFoundHandler = s.refuse(func(r *http.Request) error {
		return fmt.Errorf("%w: %s; GET %s lists the calls", errNoCall, clip(r.URL.EscapedPath()), Prefix)
	})
	r.MethodNotAllowedHandler = s.refuse(func(r *http.Request) error {
		return fmt.Errorf("%w: %s does not take %s; GET %s lists the calls", errMethod, clip(r.URL.EscapedPath()), clip(r.Method), Prefix)
	})
	return r
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// hostOf is the address of a client without the port, which differs each time.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

func (s *server) refuse(why func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := identify(w)
		s.wait(r)
		s.fail(w, r, id, why(r))
	})
}

// wait lets the answer to a stranger wait.
func (s *server) wait(r *http.Request) {
	if s.Stranger != nil {
		s.Stranger(r)
	}
}

// identify gives the request an id, which finds it in the logs.
func identify(w http.ResponseWriter) string {
	id := rand.Text()
	w.Header().Set("X-Amz-Request-Id", id)
	return id
}

// handle is what all calls have in common: id, signature, body, deadline, one
// place for answers, and no panic that reaches the server.
func (s *server) handle(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := identify(w)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http knows this very value alone
					panic(p)
				}
				s.fail(w, r, id, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		ctx, cancel := context.WithTimeout(r.Context(), rt.time)
		defer cancel()
		c := &call{Request: r.WithContext(ctx), lines: &lines{w: w}}
		if rt.open {
			if s.Unverified != nil {
				// Until its end: the answer need not be taken.
				s.Unverified(r)
			}
		} else {
			if err := s.admit(c); err != nil {
				if c.principal == nil {
					s.wait(r)
				}
				s.fail(w, r, id, err)
				return
			}
		}
		if c.principal != nil {
			c.Request = c.WithContext(events.WithCaller(c.Context(), events.Caller{AccessKey: c.principal.AccessKey, RequestID: id, Remote: hostOf(r.RemoteAddr)}))
		}
		status, v, err := rt.do(c)
		pause.At(pause.BeforeAnswer)
		if c.lines.begun {
			if err != nil {
				status, body := s.failure(r, id, err)
				v = map[string]any{"error": body, "status": status}
			}
			c.lines.last(v)
			return
		}
		if err != nil {
			s.fail(w, r, id, err)
			return
		}
		write(w, status, v)
	})
}

// verify verifies the signature. Where the header does not say what the body is, it
// is read first.
func (s *server) verify(r *http.Request) (*sigv4.Signed, error) {
	if s.Unverified != nil && r.ContentLength != 0 && len(r.Header["X-Amz-Content-Sha256"]) == 0 {
		over := s.Unverified(r)
		defer over()
	}
	return s.Verifier.VerifyBuffered(r, maxBody)
}

// admit verifies the signature and reads the body that it covers.
func (s *server) admit(c *call) error {
	if c.ContentLength > maxBody {
		return fmt.Errorf("%w: %d bytes; at most %d are taken", errTooLarge, c.ContentLength, maxBody)
	}
	signed, err := s.verify(c.Request)
	if err != nil {
		return err
	}
	if c.principal, err = s.Principals.Principal(c.Context(), signed.AccessKey, signed.SessionToken); err != nil {
		return err
	}
	unsigned := signed.Payload == sigv4.PayloadUnsigned || signed.Payload == sigv4.PayloadUnsignedChunksTrailer || signed.Kind == sigv4.KindPresigned
	if c.Method != http.MethodGet && unsigned {
		return fmt.Errorf("%w: the body must be covered by the signature; send its SHA-256 as x-amz-content-sha256", errBadRequest)
	}
	if c.Method != http.MethodGet {
		if c.key, err = idempotency.CheckKey(c.Header["Idempotency-Key"]); err != nil {
			return err
		}
	}
	body, err := signed.Body(c.Request, sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	if c.body, err = io.ReadAll(io.LimitReader(body, maxBody+1)); err != nil {
		return err
	}
	if len(c.body) > maxBody {
		return fmt.Errorf("%w: at most %d bytes are taken", errTooLarge, maxBody)
	}
	if name, found := twice(c.body); found {
		return fmt.Errorf("%w: the field %q is given twice; send it once", errBadRequest, clip(name))
	}
	return nil
}

// fail writes an error.
func (s *server) fail(w http.ResponseWriter, r *http.Request, id string, err error) {
	status, body := s.failure(r, id, err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	write(w, status, body)
}

// failure is an error's answer.
func (s *server) failure(r *http.Request, id string, err error) (status int, body map[string]any) {
	a, message := answerTo(err)
	if a.status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Logger.Error("lock API call failed", "request_id", id, "method", r.Method, "path", clip(r.URL.EscapedPath()), "status", a.status, "error", err)
	}
	body = map[string]any{"code": a.code, "message": message, "request_id": id}
	for k, v := range extra(err) {
		body[k] = v
	}
	return a.status, body
}

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		// Only our own types get here, and they all marshal.
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client's end of the connection is its own business.
	_, _ = w.Write(append(b, '\n'))
}
