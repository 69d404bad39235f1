package fence

import (
	"strings"
	"testing"
)

// FuzzScopeRef: a scope that is named, with its generation, is one, and is written as
// it was read.
func FuzzScopeRef(f *testing.F) {
	for _, s := range []string{"s3://data/jobs/", "s3://data/jobs/?generation=2", "s3://data/?generation=0", "s3://data/?generation=+1", "s3://data/?x", "s3://data/*/?generation=1", "s3://data/a?generation=1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sc, g, err := ParseScopeRef(s)
		if err != nil {
			return
		}
		want := sc.String()
		if g != 0 {
			want += "?generation=" + Token(g).String()
		}
		if want != s || g < 0 || sc.IsZero() {
			t.Fatalf("%q is %s, generation %d", s, sc, g)
		}
		if again, err := ParseScope(sc.String()); err != nil || again != sc {
			t.Fatalf("%q is %s, which is %v, %v", s, sc, again, err)
		}
	})
}

// FuzzFind: of a list of guards, a key lies in the scope that reading the patterns one
// by one, segment by segment, says, and in no two.
func FuzzFind(f *testing.F) {
	f.Add("s3://data/jobs/", "s3://data/tenants/*/", "data", "tenants/a/b")
	f.Add("s3://data/*/x/", "s3://data/", "data", "a/x/y")
	f.Add("s3://data/a/", "s3://data/a/b/", "data", "a/b/c")
	f.Add("s3://data/*/", "s3://data/*/", "data", "//x")
	f.Add("s3://data/*/", "s3://other/", "data", ".s3fence/x/y")
	f.Add("s3://data/a b+%2F/", "s3://data/é/", "data", "a b+%2F/x")
	f.Fuzz(func(t *testing.T, one, two, bucket, key string) {
		var patterns []Pattern
		var list []Guard
		for i, s := range []string{one, two} {
			if p, err := ParsePattern(s); err == nil {
				patterns = append(patterns, p)
				list = append(list, Guard{ID: GuardID(i + 1), Pattern: p, State: Active})
			}
		}
		gs, err := NewGuards(1, list)
		if err != nil {
			if len(patterns) != 2 || !patterns[0].Overlaps(patterns[1]) {
				t.Fatalf("%q and %q are refused: %v", one, two, err)
			}
			return
		}
		if len(patterns) == 2 && patterns[0].Overlaps(patterns[1]) {
			t.Fatalf("%q and %q overlap and are taken", one, two)
		}
		want := ""
		for _, p := range patterns {
			if prefix, ok := plainly(p, bucket, key); ok {
				if want != "" {
					t.Fatalf("%q lies in %s and in %s, which do not overlap", key, want, p)
				}
				want = "s3://" + bucket + "/" + prefix
			}
		}
		g, sc, ok := gs.Find(bucket, key)
		if ok != (want != "") || ok && (sc.String() != want || !sc.Contains(bucket, key) || !g.Pattern.Governs(sc)) {
			t.Fatalf("%q of %q lies in %q, found is %s, %v", key, bucket, want, sc, ok)
		}
	})
}

// plainly matches as the documentation says it: a * is one whole segment.
func plainly(p Pattern, bucket, key string) (prefix string, ok bool) {
	rest, ok := strings.CutPrefix(p.String(), "s3://"+bucket+"/")
	if !ok || strings.HasPrefix(key, Reserved) {
		return "", false
	}
	have := strings.Split(key, "/")
	for i, want := range strings.Split(rest, "/") {
		if want == "" {
			break
		}
		if i >= len(have)-1 || have[i] == "" || have[i] == "." || have[i] == ".." || want != "*" && want != have[i] {
			return "", false
		}
		prefix += have[i] + "/"
	}
	return prefix, true
}
