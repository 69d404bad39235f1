package fence

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseToken(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Token{"1": 1, "34": 34, "9007199254740993": 9007199254740993, "9223372036854775807": math.MaxInt64} {
		got, err := ParseToken(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got)
	}
	for _, s := range []string{"", "0", "-1", "+1", "01", " 1", "1 ", "1.0", "1e3", "0x1", "٣", "9223372036854775808", "99999999999999999999999", strings.Repeat("9", 5000)} {
		_, err := ParseToken(s)
		require.ErrorIs(t, err, ErrBadToken, s)
		assert.Less(t, len(err.Error()), 400)
	}
}

func TestMakeToken(t *testing.T) { // F2
	t.Parallel()
	tok, err := MakeToken(0, 34)
	require.NoError(t, err)
	assert.Equal(t, Token(34), tok)
	tok, err = MakeToken(1, 1)
	require.NoError(t, err)
	assert.Equal(t, Token(1<<40+1), tok)
	tok, err = MakeToken(1<<13-1, 1<<40-1)
	require.NoError(t, err)
	assert.Equal(t, MaxGranted, tok)
	for _, bad := range [][2]int64{{-1, 1}, {1 << 13, 1}, {0, 0}, {0, 1 << 40}} {
		_, err := MakeToken(bad[0], bad[1])
		require.Error(t, err, bad)
	}
}

func TestMarkBelow(t *testing.T) { // F1
	t.Parallel()
	assert.True(t, Mark{}.Below(Mark{1, 1}))
	assert.False(t, Mark{1, 0}.Below(Mark{}), "no row and generation 1 are the same")
	assert.True(t, Mark{1, 99}.Below(Mark{2, 1}))
	assert.False(t, Mark{2, 1}.Below(Mark{1, 99}))
	assert.False(t, Mark{1, 5}.Below(Mark{1, 5}))
}

func TestParseScope(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"s3://data/", "s3://data/jobs/", "s3://data/jobs/nightly/", "s3://my.data-1/a b/ü/"} {
		sc, err := ParseScope(s)
		require.NoError(t, err, s)
		assert.Equal(t, s, sc.String())
	}
	for _, s := range []string{
		"", "data/jobs/", "s3://data", "s3://data/jobs", "s3:///jobs/", "s3://DATA/", "s3://da/", "s3://data//", "s3://data/a//b/",
		"s3://data/./", "s3://data/../x/", "s3://data/*/", "s3://data/a*/", "s3://data/.s3fence/", "s3://data/.s3fence/x/",
		"s3://data/a\x00/", "s3://data/\xff/", "s3://data/a?b/", "s3://data/" + strings.Repeat("x", 1025) + "/", "S3://data/",
	} {
		_, err := ParseScope(s)
		require.ErrorIs(t, err, ErrBadScope, "%q", s)
	}
}

func TestParseScopeRef(t *testing.T) { // F8
	t.Parallel()
	sc, g, err := ParseScopeRef("s3://data/jobs/?generation=2")
	require.NoError(t, err)
	assert.Equal(t, "s3://data/jobs/", sc.String())
	assert.Equal(t, Generation(2), g)
	for _, s := range []string{"s3://data/jobs/?", "s3://data/jobs/?generation=", "s3://data/jobs/?generation=0", "s3://data/jobs/?g=1", "s3://data/jobs/?generation=1&x=1"} {
		_, _, err := ParseScopeRef(s)
		require.ErrorIs(t, err, ErrBadScope, s)
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for _, k := range []string{"a", "a/", "a/b", "a b+%?#", "ü", "...", "a/..b", ".s3", strings.Repeat("x", 1024)} {
		require.NoError(t, CheckKey(k), "%q", k)
	}
	for _, k := range []string{"", "/", "/a", "a//b", "a//", "./a", "a/.", "a/./b", "../a", "a/..", "x/../jobs/a", "a\x00", "\xff", strings.Repeat("x", 1025)} {
		require.ErrorIs(t, CheckKey(k), ErrBadKey, "%q", k)
	}
}

func mustPattern(t require.TestingT, s string) Pattern {
	p, err := ParsePattern(s)
	require.NoError(t, err, s)
	return p
}

func TestPatternMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pattern, key, scope string }{
		{"s3://data/", "x", "s3://data/"},
		{"s3://data/", ".s3fence/x", ""},
		{"s3://data/jobs/", "jobs/a", "s3://data/jobs/"},
		{"s3://data/jobs/", "jobs/", "s3://data/jobs/"},
		{"s3://data/jobs/", "jobs", ""},
		{"s3://data/jobs/", "jobs2/a", ""},
		{"s3://data/*/", "jobs/a/b", "s3://data/jobs/"},
		{"s3://data/*/", "jobs", ""},
		{"s3://data/*/", "/a", ""},
		{"s3://data/*/", ".s3fence/a", ""},
		{"s3://data/*/", "../a", ""},
		{"s3://data/t/*/x/", "t/1/x/y", "s3://data/t/1/x/"},
		{"s3://data/t/*/x/", "t/1/y/x", ""},
	} {
		sc, ok := mustPattern(t, tc.pattern).Match("data", tc.key)
		assert.Equal(t, tc.scope, sc.String(), "%s %s", tc.pattern, tc.key)
		assert.Equal(t, tc.scope != "", ok)
	}
	_, ok := mustPattern(t, "s3://data/").Match("logs", "x")
	assert.False(t, ok)
}

// aPattern and aKey draw from few segments, so that patterns and keys often meet.
// Each test makes generators of its own: they are not safe for concurrent use.
func aPattern() *rapid.Generator[string] {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "*"})
	return rapid.Custom(func(t *rapid.T) string {
		return "s3://data/" + strings.Join(append(rapid.SliceOfN(segment, 0, 3).Draw(t, "segments"), ""), "/")
	})
}

func aKey() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "c", ""}), 1, 5).Draw(t, "key"), "/")
	})
}

func TestOverlapMeansACommonKey(t *testing.T) {
	t.Parallel()
	patternGen, keyGen := aPattern(), aKey()
	rapid.Check(t, func(t *rapid.T) {
		p, q := mustPattern(t, patternGen.Draw(t, "p")), mustPattern(t, patternGen.Draw(t, "q"))
		if p.Overlaps(q) != q.Overlaps(p) {
			t.Fatalf("%s and %s: not symmetric", p, q)
		}
		key := keyGen.Draw(t, "key")
		_, inP := p.Match("data", key)
		_, inQ := q.Match("data", key)
		if inP && inQ && !p.Overlaps(q) {
			t.Fatalf("%s lies in %s and %s, which do not overlap", key, p, q)
		}
		if prefix := key[:rapid.IntRange(0, len(key)).Draw(t, "cut")]; inP && !p.Touches(prefix) {
			t.Fatalf("%s lies in %s but its prefix %q is not touched", key, p, prefix)
		}
	})
}

func TestGuardsFindLikeASearchOfTheList(t *testing.T) {
	t.Parallel()
	patternGen, keyGen := aPattern(), aKey()
	rapid.Check(t, func(t *rapid.T) {
		var list []Guard
		for i, s := range rapid.SliceOfN(patternGen, 0, 6).Draw(t, "patterns") {
			g := Guard{ID: GuardID(i + 1), Pattern: mustPattern(t, s)}
			overlaps := slices.ContainsFunc(list, func(h Guard) bool { return h.Pattern.Overlaps(g.Pattern) })
			_, err := NewGuards(1, append(slices.Clone(list), g))
			if (err != nil) != overlaps {
				t.Fatalf("adding %s to %v: %v, overlaps %v", s, list, err, overlaps)
			}
			if !overlaps {
				list = append(list, g)
			}
		}
		gs, err := NewGuards(1, list)
		if err != nil {
			t.Fatal(err)
		}
		key := keyGen.Draw(t, "key")
		var want GuardID
		for _, g := range list {
			if _, ok := g.Pattern.Match("data", key); ok {
				want = g.ID
			}
		}
		g, sc, ok := gs.Find("data", key)
		if ok != (want != 0) || ok && (g.ID != want || !sc.Contains("data", key)) {
			t.Fatalf("%q: found %v %v, want guard %d", key, g, sc, want)
		}
		if ok {
			if h, ok := gs.ForScope(sc); !ok || h.ID != want {
				t.Fatalf("%s: governed by %v", sc, h)
			}
		}
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	own := func(set ...func(*Guard)) *Guard {
		g := &Guard{Writes: Sealed, Tokens: Required, Issuer: Own, MaxJump: 10, State: Active}
		for _, f := range set {
			f(g)
		}
		return g
	}
	optional := func(g *Guard) { g.Tokens = Optional }
	none := func(g *Guard) { g.Tokens = None }
	external := func(g *Guard) { g.Issuer = External }
	state := func(s GuardState) func(*Guard) { return func(g *Guard) { g.State = s } }
	m := Mark{1, 34}
	for i, tc := range []struct {
		g    *Guard
		m    Mark
		r    Request
		want Verdict
	}{
		{own(), m, Request{Access: Write, Token: 34}, Admitted},
		{own(), m, Request{Access: Write, Token: 33}, Stale},
		{own(), m, Request{Access: Read, Token: 33}, Stale},
		{own(), m, Request{Access: Stage, Token: 33}, Stale},
		{own(), m, Request{Access: Write, Token: 35}, NeverGranted},
		{own(), m, Request{Access: Write, Token: math.MaxInt64}, NeverGranted},
		{own(), Mark{}, Request{Access: Write, Token: 1}, NeverGranted},
		{own(), m, Request{Access: Write}, Missing},
		{own(), m, Request{Access: Stage}, Missing},
		{own(), m, Request{Access: Read}, Admitted},
		{own(), m, Request{Access: Write, Unfenced: true}, Admitted},
		{own(optional), m, Request{Access: Write}, Admitted},
		{own(optional), m, Request{Access: Write, Token: 33}, Stale},
		{own(none), m, Request{Access: Write}, Admitted},
		{own(none), m, Request{Access: Write, Token: 34}, NotTaken},
		{own(none), m, Request{Access: Read, Token: 34}, NotTaken},
		{own(state(Pending)), m, Request{Access: Write, Token: 34}, NotActive},
		{own(state(Removing)), m, Request{Access: Stage, Token: 34}, NotActive},
		{own(state(Pending)), m, Request{Access: Read}, Admitted},
		{own(external), m, Request{Access: Write, Token: 34}, Unnamed},
		{own(external), m, Request{Access: Write, Token: 34, Named: true}, Admitted},
		{own(external), m, Request{Access: Write, Token: 44, Named: true, MayRaise: true}, Raises},
		{own(external), m, Request{Access: Write, Token: 45, Named: true, MayRaise: true}, TooFar},
		{own(external), m, Request{Access: Read, Token: 44, Named: true, MayRaise: true}, Raises},
		{own(external), m, Request{Access: Read, Token: 44, Named: true}, MayNotRaise},
		{own(external), Mark{}, Request{Access: Write, Token: math.MaxInt64, Named: true, MayRaise: true}, Raises},
		{own(external), m, Request{Access: Write, Token: 33, Named: true, MayRaise: true}, Stale},
		{own(), Mark{2, 34}, Request{Access: Write, Token: 34}, OtherGeneration},
		{own(), Mark{2, 34}, Request{Access: Write, Token: 34, Generation: 1}, OtherGeneration},
		{own(), Mark{2, 34}, Request{Access: Write, Token: 34, Generation: 2}, Admitted},
		{own(), Mark{2, 34}, Request{Access: Write, Token: 33, Generation: 2}, Stale},
		{own(), m, Request{Access: Write, Token: 34, Generation: 2}, OtherGeneration},
		{own(), m, Request{Access: Write, Token: 34, Generation: 1}, Admitted},
	} {
		assert.Equal(t, tc.want, Judge(tc.g, tc.m, tc.r), "case %d: %+v against %+v", i, tc.r, tc.m)
	}
}

// TestNothingBelowTheMarkIsAdmitted is F3 and F8 over everything that a request can
// say: each combination, with tokens on either side of every bound.
func TestNothingBelowTheMarkIsAdmitted(t *testing.T) {
	t.Parallel()
	const mark, jump = 34, 10
	g := Guard{MaxJump: jump}
	each := func(r Request) {
		for _, m := range []Mark{{}, {1, mark}, {2, mark}} {
			v := Judge(&g, m, r)
			lets := v == Admitted || v == Raises
			switch {
			case !lets || r.Token == 0:
			case r.Token < m.Token:
				t.Errorf("%+v is admitted below %+v by %+v", r, m, g)
			case v == Admitted && r.Token != m.Token:
				t.Errorf("%+v is admitted without raising %+v by %+v", r, m, g)
			case v == Raises && (g.Issuer == Own || r.Token <= m.Token || !r.MayRaise || !r.Named):
				t.Errorf("%+v raises %+v by %+v", r, m, g)
			case v == Raises && m.Token != 0 && r.Token > m.Token+jump:
				t.Errorf("%+v raises %+v too far by %+v", r, m, g)
			case r.Generation != m.Current() && (r.Generation != 0 || m.Current() > FirstGeneration):
				t.Errorf("%+v is admitted in another generation than %+v by %+v", r, m, g)
			}
		}
	}
	bools := []bool{false, true}
	for _, g.Tokens = range []Tokens{Required, Optional, None} {
		for _, g.Issuer = range []Issuer{Own, External} {
			for _, g.State = range []GuardState{Pending, Active, Removing} {
				var r Request
				for _, r.Access = range []Access{Read, Write, Stage} {
					for _, r.Token = range []Token{0, 1, mark - 1, mark, mark + 1, mark + jump, mark + jump + 1, math.MaxInt64} {
						for r.Generation = range Generation(4) {
							for _, r.Named = range bools {
								for _, r.Unfenced = range bools {
									for _, r.MayRaise = range bools {
										each(r)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func TestRefusalMessages(t *testing.T) {
	t.Parallel()
	sc, err := ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Refuse(Stale, sc, &Guard{Issuer: Own}, Mark{1, 34}, Request{Token: 33})
	r.Last, r.Now = Grant{Owner: "ann@host", At: now.Add(-3 * time.Second)}, now
	assert.Equal(t, "token 33 of s3://data/jobs/ is stale: 34 was granted to ann@host 3 s ago. Stop writing; take the lock again.", r.Error())
	assert.Equal(t, 3*time.Second, r.Since())
	for ago, want := range map[time.Duration]string{
		-time.Second: "ann@host just now.", 119 * time.Second: "ann@host 119 s ago.", 2 * time.Minute: "ann@host 2 min ago.",
		119 * time.Minute: "119 min ago.", 47*time.Hour + 59*time.Minute: "47 h ago.", 49 * time.Hour: "2 days ago.",
	} {
		r.Now = r.Last.At.Add(ago)
		assert.Contains(t, r.Error(), want)
		assert.Equal(t, max(0, ago), r.Since())
	}
	r.Now = time.Time{}
	assert.Contains(t, r.Error(), "ann@host. Stop", "no time is made up")
	assert.Zero(t, r.Since())
	seen := map[string]bool{}
	for v := Stale; v <= NotActive; v++ {
		msg := Refuse(v, sc, &Guard{State: Pending, MaxJump: 5}, Mark{2, 34}, Request{Token: 33}).Error()
		assert.Contains(t, msg, "s3://data/jobs/", "verdict %d", v)
		assert.False(t, seen[msg], "verdict %d says the same as another", v)
		seen[msg] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"34", "s3://data/jobs/", "s3://data/*/x/", "s3://data/jobs/?generation=2", "jobs//a", "\xff", "s3://data/../"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && (tok.String() != s || tok < 1) {
			t.Errorf("token %q reads as %d", s, tok)
		}
		if p, err := ParsePattern(s); err == nil {
			if p.String() != s {
				t.Errorf("pattern %q reads as %s", s, p)
			}
			if !p.Overlaps(p) {
				t.Errorf("%s does not overlap itself", p)
			}
		}
		if sc, err := ParseScope(s); err == nil {
			if !sc.Contains(sc.Bucket(), sc.Prefix()+"x") || CheckKey(sc.Prefix()+"x") != nil {
				t.Errorf("scope %s has no keys", sc)
			}
		}
		if CheckKey(s) == nil {
			for _, alias := range []string{"//", "/./", "/../"} {
				if strings.Contains("/"+s+"/x", alias) && !strings.HasSuffix(s, "/") {
					t.Errorf("key %q was let through", s)
				}
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var list []Guard
	for i := range 10_000 {
		list = append(list, Guard{ID: GuardID(i), Pattern: mustPattern(b, fmt.Sprintf("s3://data/tenants/t%d/", i))})
	}
	gs, err := NewGuards(1, list)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := gs.Find("data", "tenants/t5000/index/a"); !ok {
			b.Fatal("not found")
		}
	}
}
