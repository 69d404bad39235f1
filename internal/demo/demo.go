package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/proxy"
)

// Bounds of the lease that the story is about.
const (
	UsualTTL = 2 * time.Second
	LeastTTL = time.Second
	MostTTL  = 30 * time.Second
)

const (
	// patience bounds a whole run, beside [leases] leases.
	patience = time.Minute
	leases   = 8
	// proxyEnd bounds the wait for the proxy's end.
	proxyEnd = 10 * time.Second
	// intermission lets people read before the next act, on a terminal.
	intermission = 1500 * time.Millisecond
	// unguarded is the bucket of the first act; no guard covers it.
	unguarded = "unguarded"
)

var (
	// ErrInterrupted says that a signal or the caller ended the demo.
	ErrInterrupted = errors.New("interrupted: the demo ended its processes and removed its folder")
	// ErrTooLong says that the demo was ended because it hung.
	ErrTooLong = errors.New("the demo took too long and was ended")
)

// Options are the settings of [Run].
type Options struct {
	// Program and Arguments start a worker: a program that calls [Work] with its
	// standard input and output.
	Program   string
	Arguments []string
	// Out takes the story.
	Out io.Writer
	// ASCII says whether it is told in ASCII alone; where nil, unless Out is a
	// terminal that can show more.
	ASCII *bool
	// TTL is the lease of the locks, [LeastTTL] to [MostTTL].
	TTL time.Duration
	// Redis is the Redis of the first act: a URL, [NoRedis], or empty to look for
	// one.
	Redis string
	// Next are the last lines: what to do with s3fence now.
	Next []string
}

// Run plays the demo. It takes about three leases. Errors wrap [ErrUnexpected],
// [ErrInterrupted] or [ErrTooLong] where these apply. It handles the signals of
// the process meanwhile, so that nothing is left behind.
func Run(ctx context.Context, o Options) (err error) {
	// On Linux a child ends with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unheed := heed(cancel)
	defer unheed()
	ctx, stop := context.WithTimeoutCause(ctx, patience+leases*o.TTL, ErrTooLong)
	defer stop()

	d := newDirector(o, cancel)
	defer d.stage.close()
	defer func() {
		// Whatever failed since, failed for the same reason.
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		if errors.Is(err, context.Canceled) {
			err = ErrInterrupted
		}
		err = errors.Join(err, d.end())
	}()
	return d.run(ctx)
}

// heed makes the signals that would end the process end the demo instead. A
// closed pipe is an error of the write to it. Whoever interrupts twice waits for
// the bounded end all the same.
func heed(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if s != unix.SIGPIPE {
					cancel(ErrInterrupted)
				}
			case <-over:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(over)
	}
}

// news is what reached the director about a worker, at a moment.
type news struct {
	when time.Time
	who  string
	report
	err error
}

// director sets the scene, leads the workers and tells what happens.
type director struct {
	options Options
	stage   *stage
	workers map[string]*process
	news    chan news
	// over is closed when nobody takes news any more.
	over chan struct{}
	// undo are ends of what was begun, in its order.
	undo []func() error
}

func newDirector(o Options, failed func(error)) *director {
	return &director{
		options: o, news: make(chan news), over: make(chan struct{}), workers: map[string]*process{},
		stage: openStage(o.Out, lookOf(o.Out, o.ASCII, os.Getenv), failed),
	}
}

// later remembers how to end what was begun.
func (d *director) later(f func() error) { d.undo = append(d.undo, f) }

// end undoes everything, the last first. Each step is bounded.
func (d *director) end() error {
	d.stage.show(nil)
	close(d.over)
	var errs []error
	for _, f := range slices.Backward(d.undo) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (d *director) run(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "s3fence-demo-")
	if err != nil {
		return fmt.Errorf("a temporary folder is needed: %w", err)
	}
	d.later(func() error { return os.RemoveAll(folder) })
	acts, is, err := d.scene(ctx, folder)
	if err != nil {
		return err
	}
	if err := d.hire(folder); err != nil {
		return err
	}
	d.prologue()
	plays := make([]*play, 0, len(acts))
	for i, a := range acts {
		if i > 0 && d.stage.look.live {
			if err := rest(ctx, intermission); err != nil {
				return err
			}
		}
		d.announce(i, a, is[i])
		p, err := d.perform(ctx, a)
		if err != nil {
			return err
		}
		v := p.judge()
		d.conclude(p, v)
		if err := a.check(v); err != nil {
			return err
		}
		plays = append(plays, p)
	}
	d.epilogue(plays)
	return nil
}

// scene starts the proxy with its store, and finds a Redis. is says of each act
// what stands behind it.
func (d *director) scene(ctx context.Context, folder string) (acts []act, is [][]string, err error) {
	p, err := proxy.NewDev(ctx, proxy.DevOptions{Dir: filepath.Join(folder, "data"), Listen: "127.0.0.1:0", Options: proxy.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		return nil, nil, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- p.Run(serving) }()
	d.later(func() error {
		stop()
		select {
		case err := <-served:
			return err
		case <-time.After(proxyEnd):
			return errors.New("the proxy of the demo does not end")
		}
	})
	select {
	case <-p.Serving():
	case err := <-served:
		served <- nil
		return nil, nil, fmt.Errorf("the proxy of the demo: %w", err)
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	found, err := findRedis(ctx, d.options.Redis, folder, d.later)
	if err != nil {
		return nil, nil, err
	}
	store, at := p.Embedded(), "http://"+p.Addr().String()
	direct := object{store.Endpoint, proxy.DevRegion, store.AccessKey, store.SecretKey, unguarded, "backups/index"}
	if err := direct.makeBucket(ctx); err != nil {
		return nil, nil, err
	}
	scope := "s3://" + proxy.DevBucket + "/backups/"
	acts = []act{{
		title: "a lock in Redis, writes straight to the store",
		place: lockPlace{TTL: d.options.TTL, Redis: found.place, Key: found.key}, object: direct,
	}, {
		title: "a lock of s3fence, writes through s3fence", fenced: true,
		place:  lockPlace{TTL: d.options.TTL, Endpoint: at, AccessKey: proxy.DevAccessKey, SecretKey: proxy.DevSecretKey, Scope: scope},
		object: object{at, proxy.DevRegion, proxy.DevAccessKey, proxy.DevSecretKey, proxy.DevBucket, "backups/index"},
	}}
	return acts, [][]string{
		append(found.notes,
			fmt.Sprintf("Lock: SET %s VALUE NX PX %d", found.key, d.options.TTL.Milliseconds()),
			found.is,
			fmt.Sprintf("Index: %v in the S3 store %s", direct, store.Endpoint)),
		{
			fmt.Sprintf("Lock: %s from the proxy %s", scope, at),
			"Each grant has a token, a number above all before; writes carry it.",
			fmt.Sprintf("Index: %v through that proxy, in the same store", acts[1].object),
		},
	}, nil
}

// hire starts the workers.
func (d *director) hire(folder string) error {
	for _, c := range cast {
		if err := d.start(c.name, folder); err != nil {
			return err
		}
	}
	return nil
}

func (d *director) start(name, folder string) error {
	tell := func(n news) {
		n.when, n.who = time.Now(), name
		select {
		case d.news <- n:
		case <-d.over:
		}
	}
	w, err := launch(name, d.options.Program, d.options.Arguments, folder, func(line string) {
		var n news
		if err := json.Unmarshal([]byte(line), &n.report); err != nil {
			n.err = fmt.Errorf("%s does not speak as a worker does: %q", name, line)
		}
		tell(n)
	}, func(c change) { tell(news{report: report{Step: c.step, Text: c.text}}) })
	if err != nil {
		return err
	}
	d.workers[name] = w
	d.later(w.end)
	return nil
}

// send sends an order. A pipe holds many of them, so a frozen worker keeps nobody
// waiting. A pipe that is broken is a worker that has ended, which is in the news.
func (d *director) send(who string, o order) {
	_ = json.NewEncoder(d.workers[who].in).Encode(o)
}
