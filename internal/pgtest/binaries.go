package pgtest

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// installed is where Debian puts PostgreSQL's server binaries, one folder for
// each major version. They are not in PATH there.
const installed = "/usr/lib/postgresql"

// oldest is the oldest major version that is tried.
const oldest = 15

// binaries returns the folder that holds both initdb and postgres: version 15
// first, the one that the product is measured on, then whatever PATH has, then
// the newest.
func binaries() (string, error) {
	var candidates []string
	for _, version := range versions() {
		candidates = append(candidates, filepath.Join(installed, strconv.Itoa(version), "bin"))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		at := min(1, len(candidates))
		if len(candidates) > 0 && candidates[0] != filepath.Join(installed, strconv.Itoa(oldest), "bin") {
			at = 0
		}
		candidates = slices.Insert(candidates, at, filepath.Dir(path))
	}
	for _, dir := range candidates {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("pgtest: neither %s/*/bin (version %d or later) nor PATH holds initdb and postgres: install the Debian package postgresql-15", installed, oldest)
}

// versions lists the installed major versions, 15 first, then the newest first.
func versions() []int {
	entries, err := os.ReadDir(installed)
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		if version, err := strconv.Atoi(entry.Name()); err == nil && version >= oldest {
			found = append(found, version)
		}
	}
	slices.SortFunc(found, func(a, b int) int {
		if (a == oldest) != (b == oldest) {
			return map[bool]int{true: -1, false: 1}[a == oldest]
		}
		return cmp.Compare(b, a)
	})
	return found
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
