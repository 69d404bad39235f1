package lockapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
)

// every is how often a long call says where it stands: often enough that nothing on
// the way takes it for dead.
const every = time.Second

// lines is an answer of several JSON documents, one a line: each a "progress" but
// the last, which is a "result" or an "error". Its status is 200 whatever comes.
type lines struct {
	w     http.ResponseWriter
	begun bool
}

func (l *lines) begin() {
	h := l.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	l.w.WriteHeader(http.StatusOK)
	l.begun = true
}

func (l *lines) say(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		// Only our own types get here, and they all marshal.
		panic(err)
	}
	// The client's end of the connection is its own business; it ends the call's
	// context.
	_, _ = l.w.Write(append(b, '\n'))
	_ = http.NewResponseController(l.w).Flush()
}

func (l *lines) last(v any) { l.say(v) }

// telling writes the latest of a call's progress until it is stopped.
type telling struct {
	mu     sync.Mutex
	latest guards.ExportProgress
	end    chan struct{}
	over   sync.WaitGroup
}

func (c *call) tell() *telling {
	t := &telling{end: make(chan struct{})}
	t.over.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-t.end:
				return
			case <-tick.C:
			}
			t.mu.Lock()
			now := t.latest
			t.mu.Unlock()
			if now.Step == "" {
				continue // what can be refused at once has a status of its own
			}
			if !c.lines.begun {
				c.lines.begin()
			}
			c.lines.say(map[string]any{"progress": now})
		}
	})
	return t
}

func (t *telling) set(p guards.ExportProgress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latest = p
}

func (t *telling) stop() {
	close(t.end)
	t.over.Wait()
}

// exportedJSON is what an export did.
type exportedJSON struct {
	Pattern string `json:"pattern"`
	guards.Pass
	RetaggedObjects int   `json:"retagged_objects"`
	LostObjects     int   `json:"lost_objects"`
	Removed         bool  `json:"removed"`
	Late            int   `json:"late"`
	ClosedMS        int64 `json:"closed_ms"`
}

// maxDifferences bounds the objects of each sort that an answer names.
const maxDifferences = 100

func (s *server) export(c *call, p fence.Pattern, o guards.ExportOptions) (guards.Exported, error) {
	told := c.tell()
	defer told.stop()
	o.Progress = told.set
	return s.Guards.Export(c.Context(), p, o)
}

func (s *server) exportGuard(c *call) (int, any, error) {
	var b struct {
		Pattern    pattern `json:"pattern"`
		Remove     bool    `json:"remove_guard"`
		AcceptLoss bool    `json:"accept_loss"`
	}
	if err := decode(c.body, &b); err != nil {
		return 0, nil, err
	}
	p := fence.Pattern(b.Pattern)
	if p.Bucket() == "" {
		return 0, nil, fmt.Errorf("%w: \"pattern\" is missing", errBadRequest)
	}
	if err := c.may(auth.Admin, p.Bucket(), p.Literal()); err != nil {
		return 0, nil, err
	}
	done, err := s.export(c, p, guards.ExportOptions{Remove: b.Remove, AcceptLoss: b.AcceptLoss})
	if err != nil {
		return 0, nil, err
	}
	out := exportedJSON{
		Pattern: p.String(), Pass: done.Pass, Removed: done.Removed, Late: done.Late, ClosedMS: done.Closed.Milliseconds(),
		RetaggedObjects: len(done.Retagged), LostObjects: len(done.Lost),
	}
	out.Retagged = out.Retagged[:min(len(out.Retagged), maxDifferences)]
	out.Lost = out.Lost[:min(len(out.Lost), maxDifferences)]
	return http.StatusOK, map[string]any{"result": out}, nil
}
