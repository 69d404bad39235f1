package config

import (
	"path/filepath"
	"reflect"
	"slices"
)

// Load reads the file (none where the name is empty) and puts the variables of
// environ, each NAME=VALUE as os.Environ has them, over it. What is wrong with
// the values is an [Errors] with all of it; a file that cannot be read is a plain
// error.
func Load(file string, environ []string) (*Config, error) {
	c, problems, err := load(file, environ)
	switch {
	case err != nil:
		return nil, err
	case len(problems) > 0:
		return nil, problems
	}
	return c, nil
}

// load returns what it could read together with the problems of the rest.
func load(file string, environ []string) (*Config, Errors, error) {
	var problems Errors
	root := branch(Origin{})
	dir := ""
	if file != "" {
		var err error
		if root, err = readFile(file, &problems); err != nil {
			return nil, nil, err
		}
		dir = filepath.Dir(file)
	}
	// After a file that is no YAML nothing else can be said.
	if len(problems) > 0 && len(root.names) == 0 {
		return nil, problems, nil
	}
	overlay(root, environ)
	c := &Config{file: file, origins: map[string]Origin{}}
	d := decoder{dir: dir, origins: c.origins, problems: &problems}
	d.fields(reflect.ValueOf(c).Elem(), root, "")
	c.complete()
	// What could not be read needs no second complaint from the checks.
	bad := map[string]bool{}
	for _, p := range problems {
		bad[p.Key] = true
	}
	for _, p := range c.check() {
		if !bad[p.Key] {
			problems = append(problems, p)
		}
	}
	sortProblems(problems)
	return c, problems, nil
}

// LoadState is Load for those who need the state alone: of the problems it
// reports those that could change what state is meant.
func LoadState(file string, environ []string) (State, error) {
	c, all, err := load(file, environ)
	if err != nil {
		return "", err
	}
	var problems Errors
	for _, p := range all {
		if p.Key == "" || p.Key == "state" || p.Key == "state_file" {
			problems = append(problems, p)
		}
	}
	if len(problems) > 0 {
		return "", problems
	}
	return c.State, nil
}

// sortProblems puts those of the file first, by line, then those of variables.
func sortProblems(e Errors) {
	slices.SortStableFunc(e, func(a, b Problem) int {
		if (a.Origin.Variable == "") != (b.Origin.Variable == "") {
			if a.Origin.Variable == "" {
				return -1
			}
			return 1
		}
		return a.Origin.Line - b.Origin.Line
	})
}

// complete fills in what one setting takes from another.
func (c *Config) complete() {
	only := ""
	for name := range c.Upstreams {
		only = name
	}
	for name, b := range c.Buckets {
		if b.Upstream == "" && len(c.Upstreams) == 1 {
			b.Upstream = only
		}
		if b.Bucket == "" {
			b.Bucket = name
		}
		c.Buckets[name] = b
	}
	for i := range c.Guards {
		if c.Guards[i].MaxJump == 0 {
			c.Guards[i].MaxJump = c.MaxJump
		}
	}
}
