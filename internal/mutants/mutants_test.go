package mutants

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// TestTable holds the tables to what is said of a Mutant: a fault whose text has gone
// from its source, or whose test has another name, is found here within a second.
func TestTable(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	breaks := regexp.MustCompile(`^(none: .+|F([1-9]|10)(, (F([1-9]|10)|[a-z].*))*)$`)
	seen := map[string]bool{}
	for _, m := range All() {
		assert.Regexp(t, name, m.Name)
		assert.False(t, seen[m.Name], "two are called %s", m.Name)
		seen[m.Name] = true
		assert.Regexp(t, breaks, m.Breaks, m.Name)
		assert.NotEmpty(t, m.What, m.Name)
		assert.NotEqual(t, m.Old, m.New, m.Name)
		top, _, _ := strings.Cut(m.CaughtBy.Name, "/")
		assert.True(t, hasTest(t, m.CaughtBy.Package, top), "%s: there is no test %s in %s", m.Name, top, m.CaughtBy.Package)
	}
	files, groups := byFile(All())
	for _, file := range files {
		source, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		if !strings.HasSuffix(file, ".go") {
			for i := range groups[file] {
				_, err := replaced(source, &groups[file][i])
				assert.NoError(t, err)
			}
			continue
		}
		woven, _, _, err := weave(source, groups[file])
		if assert.NoError(t, err) {
			_, err = parser.ParseFile(token.NewFileSet(), file, woven, 0)
			assert.NoError(t, err)
		}
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		source, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.Contains(string(source), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestPage keeps docs/mutants.md what the tables make of it; UPDATE=1 writes it.
func TestPage(t *testing.T) {
	t.Parallel()
	const page = root + "/docs/mutants.md"
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(Page()), 0o644)) //nolint:gosec // a page of the documentation
	}
	stands, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, Page(), string(stands), "UPDATE=1 go test -run TestPage ./internal/mutants/ writes it")
}

func TestSelect(t *testing.T) {
	t.Parallel()
	all, err := Select(nil)
	require.NoError(t, err)
	require.Len(t, all, len(All()))
	some, err := Select([]string{all[3].Name, all[1].Name})
	require.NoError(t, err)
	require.Equal(t, []Mutant{all[3], all[1]}, some)
	_, err = Select([]string{"nobody"})
	require.ErrorContains(t, err, "nobody")
}
