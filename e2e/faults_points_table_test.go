package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of pause points: at each point × what happens while the program stands there
// × the state, what whoever stood there is answered and what the next holder reads first.
// Each row is executed (faults_points_test.go); docs/pause-points.md is made of it.

// happening is what happens while a proxy stands at a point.
type happening string

const (
	// takeover: the lock is taken by somebody else, who writes.
	takeover happening = "takeover"
	// crash: the process is killed there (SIGKILL) and started again.
	crash happening = "crash"
	// noDatabase: the database is killed, whoever stands at the point goes on, and the
	// database comes back.
	noDatabase happening = "database lost"
	// noStore: the same with the object store.
	noStore happening = "store lost"
)

var happenings = []happening{takeover, crash, noDatabase, noStore}

// What comes to a point.
const (
	aPut      = "a PUT of `late` over `base`"
	aTake     = "a takeover by force"
	aGuard    = "adding a guard"
	collector = "the collector"
)

// expected is what must be true of a row.
type expected struct {
	// answer is the status of whoever stood at the point; 0: nobody is answered, since the
	// process is gone or nobody had asked.
	answer int
	// first is what the next holder reads first.
	first string
	// unreached says why there is nothing to execute.
	unreached string
	// held: the state has one writer, so the next holder waits until whoever stands there
	// goes on. back: whoever goes on is answered only when the database is back.
	held, back bool
}

func (e expected) String() string {
	switch {
	case e.unreached != "":
		return "—"
	case e.answer == 0:
		return fmt.Sprintf("no answer, `%s`", e.first)
	case e.held:
		return fmt.Sprintf("%d, `%s`; the next holder waits", e.answer, e.first)
	case e.back:
		return fmt.Sprintf("%d once it is back, `%s`", e.answer, e.first)
	}
	return fmt.Sprintf("%d, `%s`", e.answer, e.first)
}

// pausePoint is a row of the table.
type pausePoint struct {
	name  string
	doing string
	// means says what the row shows.
	means string
	on    map[happening]expected
}

const withItsProcess = "SQLite is in the proxy's process and is lost with it: see crash"

var pausePoints = []pausePoint{
	{"BeforeUpload", aPut, "nothing was sent: whoever goes on meets what is there then", map[happening]expected{
		takeover: {answer: 412, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base"}, noStore: {answer: 503, first: "base"},
	}},
	{"AfterUpload", aPut, "the bytes are an orphan until the commit, and stay one if it is refused", map[happening]expected{
		takeover: {answer: 412, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base"}, noStore: {answer: 200, first: "late"},
	}},
	{"BeforeCommit", aPut, "its session is ended by the takeover, which needs the scope's lock; without an answer to COMMIT its id decides", map[happening]expected{
		takeover: {answer: 503, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base", back: true}, noStore: {answer: 200, first: "late"},
	}},
	{"AfterCommit", aPut, "it took effect before whatever happens", map[happening]expected{
		takeover: {answer: 200, first: "late"}, crash: {first: "late"}, noDatabase: {answer: 200, first: "late"}, noStore: {answer: 200, first: "late"},
	}},
	{"BeforeRaise", aTake, "nothing has happened: it comes after the others, and its token is the highest", map[happening]expected{
		takeover: {answer: 200, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base"}, noStore: {answer: 200, first: "base"},
	}},
	{"AfterRaise", aTake, "the mark counts, not the answer: the old holder is stale, and a later takeover draws a higher token", map[happening]expected{
		takeover: {answer: 200, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 200, first: "base"}, noStore: {answer: 200, first: "base"},
	}},
	{"GuardPending", aGuard, "writes under the pattern are refused; whoever adds the guard again finishes it", map[happening]expected{
		takeover: {answer: 200, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base"}, noStore: {answer: 503, first: "base"},
	}},
	{"GuardActivate", aGuard, "all is taken in, and the guard is pending still", map[happening]expected{
		takeover: {answer: 200, first: "base"}, crash: {first: "base"}, noDatabase: {answer: 503, first: "base"}, noStore: {answer: 200, first: "base"},
	}},
	{"CollectHorizon", collector, "names below the horizon cannot be committed any more, whenever it goes on", map[happening]expected{
		takeover: {first: "base"}, crash: {first: "base"}, noDatabase: {first: "base"}, noStore: {first: "base"},
	}},
	{"CollectNote", collector, "what it has listed is compared with the rows as they are when it goes on", map[happening]expected{
		takeover: {first: "base"}, crash: {first: "base"}, noDatabase: {first: "base"}, noStore: {first: "base"},
	}},
	{"CollectDelete", collector, "what it has chosen can never be referred to again", map[happening]expected{
		takeover: {first: "base"}, crash: {first: "base"}, noDatabase: {first: "base"}, noStore: {first: "base"},
	}},
	{"BeforeAnswer", aPut, "it took effect before whatever happens", map[happening]expected{
		takeover: {answer: 200, first: "late"}, crash: {first: "late"}, noDatabase: {answer: 200, first: "late"}, noStore: {answer: 200, first: "late"},
	}},
}

// onSQLite is what differs there.
var onSQLite = map[string]map[happening]expected{
	"BeforeCommit": {takeover: {answer: 200, first: "late", held: true}},
}

// of is the expectation of one cell.
func (p pausePoint) of(state State, h happening) expected {
	if state == SQLite {
		if h == noDatabase {
			return expected{unreached: withItsProcess}
		}
		if e, ok := onSQLite[p.name][h]; ok {
			return e
		}
	}
	return p.on[h]
}

const pausePage = "../docs/pause-points.md"

// TestPausePage keeps the page what the table says. UPDATE=1 writes it.
func TestPausePage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# Pause points

Places in the program (` + "`internal/pause`" + `) at which tests stop or kill it, and what is
true when it goes on. Made of the table in ` + "`e2e/faults_points_table_test.go`" + ` by
` + "`UPDATE=1 go test -run TestPausePage ./e2e/`" + `; each cell is executed by ` + "`TestPausePoints`" + `,
with the program as it is, killed, stopped or held, on real PostgreSQL and on SQLite.

A cell says what whoever stood at the point is answered when it goes on, and what the
next holder reads first, who takes the lock over while it stands there (takeover), at once
after the kill (crash), or when the database or the store is back. After each, the next
holder writes and is answered 200; the old token is answered 412; the collector has
removed what nothing refers to; and nothing changes any more by itself (F1, F3–F7).

- **takeover**: somebody else takes the lock by force and writes. On PostgreSQL through
  another proxy, while the first one is stopped (SIGSTOP); on SQLite, which has one
  process, through the same one, in which only the request or the job stands still.
- **crash**: the process is killed there (SIGKILL), and started again. On PostgreSQL the
  lock is taken through the other proxy at once; on SQLite after the start.
- **database lost**: PostgreSQL is killed, whoever stands at the point goes on without it,
  and it is started again. ` + withItsProcess + `.
- **store lost**: all connections to the store are reset and new ones refused, whoever
  stands at the point goes on without it, and it comes back.
`)
	for _, state := range []State{PostgreSQL, SQLite} {
		fmt.Fprintf(&b, "\n## %s\n\n| point | who stands there |", map[State]string{PostgreSQL: "PostgreSQL", SQLite: "SQLite"}[state])
		for _, h := range happenings {
			fmt.Fprintf(&b, " %s |", h)
		}
		b.WriteString("\n|---|---|---|---|---|---|\n")
		for _, p := range pausePoints {
			fmt.Fprintf(&b, "| `%s` | %s |", p.name, p.doing)
			for _, h := range happenings {
				fmt.Fprintf(&b, " %s |", p.of(state, h))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n## What the rows show\n\n")
	for _, p := range pausePoints {
		fmt.Fprintf(&b, "- `%s`: %s.\n", p.name, p.means)
	}
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(pausePage, []byte(b.String()), 0o600))
	}
	page, err := os.ReadFile(pausePage)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(page))
}

// TestPausePointsAreAll: the table has each point of the program.
func TestPausePointsAreAll(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../internal/pause/points.go")
	require.NoError(t, err)
	names := strings.Count(string(source), " Point = \"")
	require.Len(t, pausePoints, names)
	for _, p := range pausePoints {
		require.Contains(t, string(source), "Point = \""+p.name+"\"")
		for _, h := range happenings {
			require.NotEmpty(t, p.on[h].first, "%s has no row for %s", p.name, h)
		}
	}
}
