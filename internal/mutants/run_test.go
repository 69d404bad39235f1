package mutants

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample is a module with one function of each form that can be woven into, and
// tests that fail in each way in which a test may.
var sample = map[string]string{
	"go.mod": "module sample\n\ngo 1.26\n",
	"sample/sample.go": `// Package sample is a sample.
package sample

type box[T any] struct{ v T }

const limit = 3

// Get comes before its mutant.
func (b *box[T]) Get(_ int, more ...T) (v T, ok bool) {
	if len(more) > 0 {
		return more[0], true
	}
	return b.v, false
}

func (box[T]) Unnamed(string, ...int) int { return 1 }

func pick[K comparable, V any](m map[K]V, k K) V { return m[k] }

func set(p *int) {
	*p = 1
	*p++
}

func below(n int) bool { return n < limit }

func loop() int {
	for i := 0; ; i++ {
		if i == 5 {
			return i
		}
	}
}

func deref(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}
`,
	"sample/sample_test.go": `package sample

import "testing"

func want(t *testing.T, ok bool) {
	t.Helper()
	if !ok {
		t.Error("no")
	}
}

func TestGet(t *testing.T) {
	b := &box[string]{"x"}
	t.Run("all of it", func(t *testing.T) {
		v, ok := b.Get(1, "a", "b")
		want(t, v == "a" && ok)
		v, ok = b.Get(1)
		want(t, v == "x" && !ok)
	})
	t.Run("beside it", func(t *testing.T) {})
}

func TestUnnamed(t *testing.T) { want(t, box[int]{}.Unnamed("", 1, 2) == 1) }
func TestPick(t *testing.T)    { want(t, pick(map[string]int{"a": 7}, "a") == 7) }

func TestSet(t *testing.T) {
	n := 0
	set(&n)
	want(t, n == 2)
}

func TestBelow(t *testing.T)  { want(t, below(2) && !below(3)) }
func TestLoop(t *testing.T)   { want(t, loop() == 5) }
func TestDeref(t *testing.T)  { want(t, deref(nil) == 0) }
func TestSkips(t *testing.T)  { t.Skip("not today") }
func TestFails(t *testing.T)  { want(t, false) }
func TestBeside(t *testing.T) {}
`,
	"broken/broken.go":      "package broken\n\nfunc one() int { return 1 }\n",
	"broken/broken_test.go": "package broken\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) { _ = one() }\n",
}

// TestRun plants in the sample: what is caught is told as caught, and every way of
// not catching as what it is.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range sample {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	cases := []struct {
		old, new, test string
		says           string // of the verdict; "" for one that is caught
	}{
		{"return more[0], true", "return more[1], true", "TestGet/all_of_it", ""},
		{"return b.v, false", "return b.v, true", "TestGet/all_of_it", ""},
		{"return b.v, false", "return b.v, len(more) == 0", "TestGet/beside_it", "it survives"},
		{"return 1", "return 2", "TestUnnamed", ""},
		{"return m[k]", "var v V; return v", "TestPick", ""},
		{"*p = 1", "*p = 2", "TestSet", ""},
		{"*p++", "*p--", "TestSet", ""},
		{"limit = 3", "limit = 4", "TestBelow", ""},
		{"limit = 3", "limit = 3 // the same", "TestBelow", "it survives"},
		{"limit = 3", "limit = three", "TestBelow", "does not build"},
		{"i == 5", "i < 0", "TestLoop", "the test broke down instead of failing"},
		{"p == nil", "p != nil", "TestDeref", "the test broke down instead of failing"},
		{"n < limit", "n <= limit", "TestSkips", "TestSkips does not pass without it"},
		{"n < limit", "n >= limit", "TestFails", "TestFails does not pass without it"},
		{"n < limit", "n != limit", "TestNowhere", "TestNowhere does not pass without it"},
		{"n < limit", "n == limit", "TestBeside", "it survives"},
		{"return 1", "return none", "TestOne", "planted:m16:1: undefined: none"},
	}
	var list []Mutant
	want := map[string]string{}
	for i, c := range cases {
		m := Mutant{Name: "m" + string(rune('0'+i/10)) + string(rune('0'+i%10)), File: "sample/sample.go", Old: c.old, New: c.new, CaughtBy: Test{Package: "sample", Name: c.test}}
		if c.test == "TestOne" {
			m.File, m.CaughtBy.Package = "broken/broken.go", "broken"
		}
		if c.test == "TestFails" {
			// It would fail the others' run of the tests as they stand.
			m.CaughtBy.Tags = "alone"
		}
		list = append(list, m)
		want[m.Name] = c.says
	}
	var mu sync.Mutex
	got := map[string]error{}
	require.NoError(t, Run(t.Context(), dir, list, 2, 3*time.Second, func(v Verdict) {
		require.True(t, mu.TryLock(), "one at a time")
		defer mu.Unlock()
		got[v.Mutant.Name] = v.Err
	}))
	require.Len(t, got, len(list))
	for i, m := range list {
		if err := got[m.Name]; want[m.Name] == "" {
			assert.NoError(t, err, "%+v", cases[i])
		} else {
			assert.ErrorContains(t, err, want[m.Name], "%+v", cases[i])
		}
	}
	stands, err := os.ReadFile(filepath.Join(dir, "sample/sample.go"))
	require.NoError(t, err)
	assert.Equal(t, sample["sample/sample.go"], string(stands), "the checkout is not touched")
}

// TestWeave: lines keep their numbers, and without a name nothing is chosen.
func TestWeave(t *testing.T) {
	t.Parallel()
	source := sample["sample/sample.go"]
	woven, pkg, apart, err := weave([]byte(source), []Mutant{
		{Name: "first", Old: "return b.v, false", New: "return b.v, true"}, {Name: "limit", Old: "limit = 3", New: "limit = 4"},
	})
	require.NoError(t, err)
	assert.Equal(t, "sample", pkg)
	require.Len(t, apart, 1)
	assert.Equal(t, "limit", apart[0].Name)
	lines, was := strings.Split(string(woven), "\n"), strings.Split(source, "\n")
	for i := range was {
		if i != 8 && i < len(was)-1 {
			assert.Equal(t, was[i], lines[i])
		}
	}
	assert.Equal(t, `func (b *box[T]) Get(planted1 int, more ...T) (v T, ok bool) { if plantedMutant == "first" { return b.Get_first(planted1, more...) }; `, lines[8])
	for _, bad := range []string{"", "return", "nowhere"} {
		_, _, _, err := weave([]byte(source), []Mutant{{Name: "bad", Old: bad}})
		assert.Error(t, err, "%q", bad)
	}
}
