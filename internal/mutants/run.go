package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limit bounds one run of a test; what takes longer catches nothing.
const Limit = time.Minute

// Verdict is what became of a mutant.
type Verdict struct {
	Mutant Mutant
	// Err is nil for one that was caught.
	Err  error
	Took time.Duration
}

// Run plants mutants of the module at root, atOnce of their tests at a time and each
// of them within limit, and tells each verdict as it comes, one call at a time. It
// fails where no mutant could be judged.
func Run(ctx context.Context, root string, list []Mutant, atOnce int, limit time.Duration, tell func(Verdict)) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p := &planter{root: root, dir: dir}
	woven, apart, err := p.weaveAll(list)
	if err != nil {
		return err
	}
	var telling sync.Mutex
	verdict := func(v Verdict) {
		telling.Lock()
		defer telling.Unlock()
		tell(v)
	}
	r := &runner{planter: p, limit: limit, places: make(chan struct{}, atOnce), verdict: verdict}
	defer r.running.Wait()
	alone := map[string]bool{}
	for i := range apart {
		alone[apart[i].Name] = true
	}
	for _, group := range byProgram(list) {
		r.group(ctx, group, woven, alone)
	}
	return nil
}

// runner builds in the goroutine of its caller and runs what is built beside it.
type runner struct {
	*planter
	limit   time.Duration
	places  chan struct{}
	running sync.WaitGroup
	built   int
	verdict func(Verdict)
}

// byProgram groups mutants by the test program that is to catch them, the largest
// groups first: their tests run while the others are built.
func byProgram(list []Mutant) [][]Mutant {
	var groups [][]Mutant
	at := map[[2]string]int{}
	for _, m := range list {
		k := [2]string{m.CaughtBy.Package, m.CaughtBy.Tags}
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], m)
	}
	slices.SortStableFunc(groups, func(a, b []Mutant) int { return len(b) - len(a) })
	return groups
}

// group judges the mutants that one package of tests is to catch.
func (r *runner) group(ctx context.Context, group []Mutant, woven string, alone map[string]bool) {
	program, err := r.program(ctx, group[0].CaughtBy, woven)
	if err != nil {
		for _, m := range group {
			r.verdict(Verdict{Mutant: m, Err: err})
			err = errNotBuilt
		}
		return
	}
	// The tests must pass as they stand: one run for all of them.
	sound := make(chan struct{})
	var base outcome
	r.running.Go(func() {
		defer close(sound)
		base = r.run(ctx, program, "", group)
	})
	for _, m := range group {
		with, name := program, m.Name
		if alone[m.Name] {
			name = ""
			overlay, err := r.alone(&m)
			if err == nil {
				with, err = r.program(ctx, m.CaughtBy, overlay)
			}
			if err != nil {
				r.verdict(Verdict{Mutant: m, Err: err})
				continue
			}
		}
		r.running.Go(func() {
			out := r.run(ctx, with, name, []Mutant{m})
			<-sound
			err := base.passed(m.CaughtBy)
			if err == nil {
				err = out.caught(m.CaughtBy)
			}
			r.verdict(Verdict{Mutant: m, Err: err, Took: out.took})
		})
	}
}

func (r *runner) program(ctx context.Context, t Test, overlay string) (string, error) {
	r.built++
	name := filepath.Join(r.dir, fmt.Sprintf("%d.test", r.built))
	return name, r.build(ctx, t, overlay, name)
}

// outcome is how a run of a test program ended.
type outcome struct {
	said string
	err  error
	took time.Duration
}

// run runs the tests that are to catch mutants, under the mutant of that name, when
// there is a place for it.
func (r *runner) run(ctx context.Context, program, name string, list []Mutant) outcome {
	r.places <- struct{}{}
	defer func() { <-r.places }()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.limit+10*time.Second)
	defer cancel()
	var patterns []string
	for _, m := range list {
		patterns = append(patterns, m.CaughtBy.pattern())
	}
	c := exec.CommandContext(ctx, program, "-test.v", "-test.run", strings.Join(patterns, "|"), "-test.timeout", r.limit.String())
	c.Dir = filepath.Join(r.root, list[0].CaughtBy.Package)
	c.Env = append(os.Environ(), Environment+"="+name)
	c.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	err := c.Run()
	return outcome{said.String(), err, time.Since(begin)}
}

// tells reports whether the program told this result of a test.
func (o outcome) tells(result string, t Test) bool {
	return regexp.MustCompile(`(?m)^ *--- ` + result + `: ` + regexp.QuoteMeta(t.Name) + ` \(`).MatchString(o.said)
}

var errNotBuilt = errors.New("nor do the other tests of its package")

var errSurvived = errors.New("it survives: the test passes with it")

// passed is nil if a test that stands in the run passed, and nothing else failed.
func (o outcome) passed(t Test) error {
	if o.err != nil || !o.tells("PASS", t) {
		return fmt.Errorf("%s does not pass without it: %w", t.Name, o.failure())
	}
	return nil
}

// caught is nil if the test failed as tests do.
func (o outcome) caught(t Test) error {
	var exit *exec.ExitError
	switch {
	case o.err == nil && o.tells("PASS", t):
		return errSurvived
	case strings.Contains(o.said, "\npanic: ") || strings.HasPrefix(o.said, "panic: ") || strings.Contains(o.said, "\nfatal error: "):
		return fmt.Errorf("the test broke down instead of failing: %w", o.failure())
	case errors.As(o.err, &exit) && exit.ExitCode() == 1 && o.tells("FAIL", t):
		return nil
	}
	return fmt.Errorf("%s did not fail: %w", t.Name, o.failure())
}

// failure is what a run said at its end.
func (o outcome) failure() error {
	const most = 3000
	said := o.said
	if len(said) > most {
		said = "…" + said[len(said)-most:]
	}
	if o.err == nil {
		return errors.New(said)
	}
	return fmt.Errorf("%w\n%s", o.err, said)
}
