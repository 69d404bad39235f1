package demo

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata/name.txt.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	got := strings.Join(lines, "\n") + "\n"
	path := filepath.Join("testdata", name+".txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test ./internal/demo -update writes it")
	require.Equal(t, string(want), got)
}

func lookAt(width int, colour, ascii bool) look {
	return look{colour: colour, ascii: ascii, width: func() int { return width }}
}

// shown is a play of each act as it goes on an idle machine.
func shown(l look) (first, second *play) {
	d := &director{stage: &stage{look: l}}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	at := func(n int, who string, r report) event { return event{ms(n), who, r} }
	until := func(token int64) []event {
		return []event{
			at(0, "ann", report{Step: ordered}),
			at(10, "ann", report{Step: held, Left: ms(1990), Token: token}),
			at(12, "ann", report{Step: read}),
			at(612, "ann", report{Step: checked, Left: ms(1390), Lines: []string{"monday"}}),
			at(613, "ann", report{Step: stopped}),
			at(613, "bob", report{Step: ordered}),
			at(615, "bob", report{Step: waits}),
			at(2020, "bob", report{Step: held, Left: ms(1990), Token: token * 2}),
			at(2022, "bob", report{Step: read}),
			at(2622, "bob", report{Step: checked, Left: ms(1390), Lines: []string{"tuesday"}}),
			at(2625, "bob", report{Step: written, Status: 200, Lines: []string{"tuesday"}}),
			at(2627, "bob", report{Step: released}),
			at(3230, "ann", report{Step: continued}),
		}
	}
	views := []view{{0, "", nil}, {ms(2626), "bob", []string{"tuesday"}}}
	first = &play{director: d, length: ms(3240), act: act{title: "a lock in Redis, writes straight to the store"},
		events: append(until(0),
			at(3235, "ann", report{Step: written, Status: 200, Lines: []string{"monday"}}),
			at(3237, "ann", report{Step: lost})),
		views: append(views[:2:2], view{ms(3236), "ann", []string{"monday"}})}
	second = &play{director: d, length: ms(4450), act: act{title: "a lock of s3fence, writes through s3fence", fenced: true},
		events: append(until(1),
			at(3235, "ann", report{Step: refused, Status: 412, Code: stale, Lines: []string{"monday"}, Text: "token 1 of s3://demo/backups/ is stale: 2 was granted to bob. Stop writing; take the lock again."}),
			at(3835, "ann", report{Step: ordered}),
			at(3840, "ann", report{Step: held, Left: ms(1990), Token: 3}),
			at(3842, "ann", report{Step: read, Lines: []string{"tuesday"}}),
			at(4442, "ann", report{Step: checked, Left: ms(1390)}),
			at(4445, "ann", report{Step: written, Status: 200, Lines: []string{"tuesday", "monday"}}),
			at(4447, "ann", report{Step: released})),
		views: append(views[:2:2], view{ms(3236), "ann", []string{"tuesday"}}, view{ms(4446), "ann", []string{"tuesday", "monday"}})}
	return first, second
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func TestDrawings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		width         int
		colour, ascii bool
	}{
		{"80", 80, false, false},
		{"80-ascii", 80, false, true},
		{"80-colour", 80, true, false},
		{"64", 64, false, false},
		{"120-ascii", 120, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := lookAt(tc.width, tc.colour, tc.ascii)
			var lines []string
			first, second := shown(l)
			for _, p := range []*play{first, second} {
				lines = append(lines, l.lanes("", [2]style{strong, strong}, [2]string{"ann", "bob"}))
				for _, e := range p.events {
					if s, text := p.tell(e); text != "" {
						lines = append(lines, l.inLane(e.at, e.who, s, text)...)
					}
				}
				lines = append(lines, "")
			}
			for _, p := range []*play{first, second} {
				lines = append(append(lines, drawTimeline(l, p.timeline(), second.length)...), "")
			}
			lines = append(lines, legend(l)...)
			golden(t, tc.name, lines)
			for _, line := range lines {
				bare := escapes.ReplaceAllString(line, "")
				assert.LessOrEqual(t, utf8.RuneCountInString(bare), tc.width, line)
				assert.Equal(t, tc.colour && bare != "" && bare != line, bare != line, "%q", line)
				if tc.ascii {
					assert.Regexp(t, `^[ -~]*$`, line)
				}
			}
		})
	}
}

// Whatever the times, a drawing has its width and shows what happened last.
func TestTimelineAtTheEdges(t *testing.T) {
	t.Parallel()
	l := lookAt(leastWidth, false, true)
	for _, end := range []time.Duration{time.Microsecond, time.Second, 10 * time.Second, 3 * time.Minute, 2 * time.Hour} {
		lines := drawTimeline(l, timeline{rows: []row{{
			label: "ann", spans: []span{{0, end * 2, runs, runs, runs}},
			marks: []mark{{end, 'W', good}, {end, 'X', bad}},
		}}}, end)
		for _, line := range lines {
			assert.LessOrEqual(t, len(line), leastWidth, end)
		}
		assert.True(t, strings.HasSuffix(lines[len(lines)-1], "X"), "%v: %s", end, lines[len(lines)-1])
		assert.GreaterOrEqual(t, strings.Count(lines[1], "+"), 1, end)
		assert.LessOrEqual(t, strings.Count(lines[1], "+"), 10, end)
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	fine, coarse := false, true
	for _, tc := range []struct {
		ascii *bool
		want  bool
	}{{nil, true}, {&coarse, true}, {&fine, false}} {
		l := lookOf(new(strings.Builder), tc.ascii, none)
		assert.Equal(t, tc.want, l.ascii)
		assert.False(t, l.live || l.colour)
		assert.Equal(t, usualWidth, l.width())
	}
	// A file is no terminal, whatever the environment says.
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer f.Close()
	l := lookOf(f, nil, func(name string) string {
		return map[string]string{"LANG": "C.UTF-8", "TERM": "xterm"}[name]
	})
	assert.True(t, l.ascii)
	assert.False(t, l.live || l.colour)
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"one", "one"},
		{"one two  three", "one two|three"},
		{"s3://demo/backups/", "s3://demo|/backups/"},
		{"a s3://demo/backups/ b", "a|s3://demo|/backups/|b"},
	} {
		assert.Equal(t, tc.want, strings.Join(wrap(tc.text, 9), "|"), tc.text)
	}
}

// The output of a stage that nobody takes does not keep the director waiting.
func TestStageThatBlocks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	failed := make(chan error, 1)
	s := openStage(writer(func([]byte) (int, error) {
		<-release
		return 0, fmt.Errorf("broken")
	}), lookAt(80, false, true), func(err error) { failed <- err })
	for range 100 {
		s.put("line")
	}
	begun := time.Now()
	s.close()
	assert.Less(t, time.Since(begun), 10*curtainTime)
	close(release)
	require.ErrorIs(t, within(t, failed), errNobodyReads)
	within(t, s.over)
	assert.Empty(t, failed, "it is said once")
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
