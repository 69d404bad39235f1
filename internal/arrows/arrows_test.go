package arrows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// pkg is what the rules see of a package.
type pkg struct {
	// ImportPath is the whole path, Imports what its files name (test files
	// left out), Deps everything reached.
	ImportPath    string
	Imports, Deps []string
}

// local returns the path below the module, or false for a stranger's package.
func local(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

func TestImportsKeepToTheArrows(t *testing.T) {
	t.Parallel()
	packages := list(t)
	for _, fault := range check(packages) {
		t.Error(fault)
	}
}

// list asks the go command for all packages of this module and what they need.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, messages.String())
	}
	packages := map[string]pkg{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages[p.ImportPath] = p
	}
}

// check returns every import that the tables forbid.
func check(packages map[string]pkg) []string {
	var faults []string
	for _, p := range packages {
		name, ours := local(p.ImportPath)
		if !ours {
			continue
		}
		row, known := rooms[name]
		if !known {
			faults = append(faults, fmt.Sprintf("%s has no row in internal/arrows/rules_test.go: add one that says what it may import, and why", name))
			continue
		}
		for _, path := range p.Imports {
			if imported, ours := local(path); ours && !row.allows(imported) && !helperMay(name, imported) {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", name, imported, row.why))
			}
			if imported, ours := local(path); ours && slices.Contains(helpers, imported) && !helperMay(name, imported) {
				faults = append(faults, fmt.Sprintf("%s imports the test helper %s: helpers are for test files", name, imported))
			}
		}
		if known, bound := strangers[name]; bound {
			for _, path := range p.Imports {
				if host, _, _ := strings.Cut(path, "/"); strings.Contains(host, ".") && !strings.HasPrefix(path, module+"/") && !slices.Contains(known, path) {
					faults = append(faults, fmt.Sprintf("%s imports %s: everybody who builds with it would; if that is meant, add it to strangers", name, path))
				}
			}
		}
		for _, b := range bans {
			if !slices.Contains(b.in, name) {
				continue
			}
			reached := p.Imports
			if b.deep {
				reached = p.Deps
			}
			for _, path := range reached {
				if b.forbids(path) {
					faults = append(faults, fmt.Sprintf("%s imports %s: %s", strings.Join(chain(packages, p.ImportPath, path), " → "), path, b.why))
				}
			}
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}

func (r room) allows(imported string) bool {
	return slices.Contains(r.may, imported) ||
		slices.Contains(r.may, "*") && !slices.Contains(helpers, imported)
}

// helperMay says whether a test helper may import another one.
func helperMay(name, imported string) bool {
	return (slices.Contains(helpers, name) || slices.Contains(helperPrograms, name)) && slices.Contains(rooms[name].may, imported)
}

func (b ban) forbids(path string) bool {
	for _, forbidden := range b.imports {
		if path == strings.TrimSuffix(forbidden, "/") || strings.HasSuffix(forbidden, "/") && strings.HasPrefix(path, forbidden) {
			return true
		}
	}
	return false
}

// chain finds a shortest way by which from reaches to, without to itself.
func chain(packages map[string]pkg, from, to string) []string {
	type step struct {
		path   string
		parent *step
	}
	seen := map[string]bool{from: true}
	for queue := []*step{{path: from}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, next := range packages[at.path].Imports {
			if next == to {
				var way []string
				for ; at != nil; at = at.parent {
					way = append(way, strings.TrimPrefix(at.path, module+"/"))
				}
				slices.Reverse(way)
				return way
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, &step{next, at})
			}
		}
	}
	return []string{from}
}

func TestEveryRuleHasItsReason(t *testing.T) {
	t.Parallel()
	for name, row := range rooms {
		if row.why == "" {
			t.Errorf("the row of %s says no reason", name)
		}
		for _, may := range row.may {
			if _, known := rooms[may]; !known && may != "*" {
				t.Errorf("the row of %s allows %s, which has no row", name, may)
			}
		}
	}
	for name := range strangers {
		if _, known := rooms[name]; !known {
			t.Errorf("strangers binds %s, which has no row", name)
		}
	}
	for _, b := range bans {
		if b.why == "" {
			t.Errorf("the ban of %v says no reason", b.imports)
		}
		for _, name := range b.in {
			if _, known := rooms[name]; !known {
				t.Errorf("the ban of %v binds %s, which has no row", b.imports, name)
			}
		}
	}
}

// Planted faults: each must be found, or the table holds nothing.
func TestCheckFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	at := func(name string) string { return module + "/" + name }
	for name, c := range map[string]struct {
		packages []pkg
		want     string
	}{
		"the rule learns SQL":       {[]pkg{{at("internal/fence"), []string{"database/sql"}, []string{"database/sql"}}}, "internal/fence imports database/sql"},
		"the rule learns the state": {[]pkg{{ImportPath: at("internal/fence"), Imports: []string{at("internal/state")}}}, "internal/fence imports internal/state"},
		"S3 learns a database":      {[]pkg{{ImportPath: at("internal/s3api"), Imports: []string{at("internal/postgres")}}}, "internal/s3api imports internal/postgres"},
		"S3 learns leases":          {[]pkg{{ImportPath: at("internal/s3api"), Imports: []string{at("internal/locks")}}}, "internal/s3api imports internal/locks"},
		"locks' API learns S3":      {[]pkg{{ImportPath: at("internal/lockapi"), Imports: []string{at("internal/s3api")}}}, "internal/lockapi imports internal/s3api"},
		"a driver learns HTTP":      {[]pkg{{ImportPath: at("internal/sqlite"), Imports: []string{"net/http"}}}, "internal/sqlite imports net/http"},
		"a program takes a helper":  {[]pkg{{ImportPath: at("cmd/proxy"), Imports: []string{at("internal/pgtest")}}}, "test helper internal/pgtest"},
		"a room takes a helper":     {[]pkg{{ImportPath: at("internal/sealed"), Imports: []string{at("internal/faultproxy")}}}, "test helper internal/faultproxy"},
		"clients pay for a library": {[]pkg{{ImportPath: at("client"), Imports: []string{"github.com/google/uuid"}}}, "client imports github.com/google/uuid"},
		"the other SDK by a detour": {[]pkg{
			{at("client/minios3"), []string{at("client")}, []string{at("client"), "github.com/aws/aws-sdk-go-v2/service/s3"}},
			{at("client"), []string{"github.com/aws/aws-sdk-go-v2/service/s3"}, []string{"github.com/aws/aws-sdk-go-v2/service/s3"}},
		}, "client/minios3 → client imports github.com/aws/aws-sdk-go-v2/service/s3"},
		"a new package": {[]pkg{{ImportPath: at("internal/utilities")}}, "internal/utilities has no row"},
		"testing by a detour": {[]pkg{
			{at("cmd/proxy"), []string{at("internal/proxy")}, []string{at("internal/proxy"), "testing"}},
			{at("internal/proxy"), []string{"testing"}, []string{"testing"}},
		}, "cmd/proxy → internal/proxy imports testing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			packages := map[string]pkg{}
			for _, p := range c.packages {
				packages[p.ImportPath] = p
			}
			faults := check(packages)
			if !slices.ContainsFunc(faults, func(fault string) bool { return strings.Contains(fault, c.want) }) {
				t.Errorf("found %q, want one that says %q", faults, c.want)
			}
		})
	}
}
