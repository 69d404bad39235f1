package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// errNotDirected says that no director writes to a worker's input.
var errNotDirected = errors.New("demo-worker is a part of s3fence demo, which starts it; run that")

// Work is the life of a worker process: it does one job for each order that it
// reads from in, and reports to out. It ends with its input: when the director is
// gone, in the midst of a job too.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	orders := make(chan order)
	go func() {
		for d := json.NewDecoder(in); ; {
			var o order
			err := d.Decode(&o)
			if err == nil && o.Name == "" && !o.Go {
				err = errNotDirected
			}
			if err != nil {
				cancel(err)
				return
			}
			select {
			case orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	w := worker{orders, json.NewEncoder(out)}
	for {
		o, err := w.next(ctx)
		if err == nil {
			err = w.job(ctx, o)
		}
		switch {
		case ctx.Err() != nil && errors.Is(context.Cause(ctx), io.EOF):
			return nil
		case ctx.Err() != nil:
			return errors.Join(errNotDirected, context.Cause(ctx))
		case err != nil:
			w.tell(report{Step: failed, Text: err.Error()})
		}
	}
}

type worker struct {
	orders <-chan order
	out    *json.Encoder
}

// tell reports to the director. Where that is gone, the input ends too.
func (w *worker) tell(r report) { _ = w.out.Encode(r) }

func (w *worker) next(ctx context.Context) (order, error) {
	select {
	case o := <-w.orders:
		return o, nil
	case <-ctx.Done():
		return order{}, context.Cause(ctx)
	}
}

// job adds a line to the object under the lock, the way careful programs do it.
func (w *worker) job(ctx context.Context, o order) error {
	l, err := o.Lock.open(ctx, o.Name)
	if err != nil {
		return fmt.Errorf("reaching the lock: %w", err)
	}
	defer l.close()
	if err := l.take(ctx, func(holder string) { w.tell(report{Step: waits, Text: holder}) }); err != nil {
		return fmt.Errorf("taking the lock: %w", err)
	}
	w.tell(report{Step: held, Token: l.token(), Left: l.left()})

	lines, err := o.Object.get(ctx)
	if err != nil {
		return err
	}
	w.tell(report{Step: read, Lines: lines})
	select {
	case <-time.After(o.Work):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	lines = append(slices.Clone(lines), o.Line)

	mine, err := l.mine(ctx)
	if err != nil {
		return fmt.Errorf("asking whether the lock is still held: %w", err)
	}
	if !mine {
		w.tell(report{Step: lapsed})
		return nil
	}
	w.tell(report{Step: checked, Left: l.left(), Lines: lines})
	if o.Hold {
		if _, err := w.next(ctx); err != nil {
			return err
		}
	}

	a, err := o.Object.put(ctx, lines, l.token())
	if err != nil {
		return fmt.Errorf("writing %v: %w", o.Object, err)
	}
	done := report{Step: written, Lines: lines, Status: a.Status, Code: a.Code, Text: a.Message}
	if a.Status != http.StatusOK {
		done.Step = refused
		w.tell(done)
		return nil
	}
	w.tell(done)
	back, err := l.giveBack(ctx)
	if err != nil {
		return fmt.Errorf("giving the lock back: %w", err)
	}
	if !back {
		w.tell(report{Step: lost})
		return nil
	}
	w.tell(report{Step: released})
	return nil
}
