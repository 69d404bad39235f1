package config

import (
	"slices"
	"strconv"
	"strings"
)

// Prefix begins the name of every variable that is looked at.
const Prefix = "S3FENCE_"

// foreign are variables with the prefix that belong to somebody else: to the
// client's commands, to tests and scripts.
var foreign = map[string]bool{
	"S3FENCE_CONFIG": true, "S3FENCE_ENDPOINT": true, "S3FENCE_SCOPE": true, "S3FENCE_TOKEN": true,
	"S3FENCE_PAUSE": true, "S3FENCE_PAUSE_DIR": true, "S3FENCE_CACHE": true, "S3FENCE_CREDENTIAL_PROCESS": true,
}

// foreignPrefixes are those that a cluster sets for a service of the name
// s3fence, and those of tests.
var foreignPrefixes = []string{"S3FENCE_SERVICE_", "S3FENCE_PORT", "S3FENCE_TEST_"}

// Configures reports whether an environment variable is read as configuration of the
// proxy. Such variables may hold its secrets, so no command of the client's side hands
// them on.
func Configures(name string) bool {
	return strings.HasPrefix(name, Prefix) && !foreign[name] &&
		!slices.ContainsFunc(foreignPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// overlay puts the variables over the tree of the file. It knows no schema:
// decoding finds unknown keys, whichever source they are of.
func overlay(root *value, environ []string) {
	environ = slices.Clone(environ)
	// In the order of names for the complaints; of two with one name the later wins.
	slices.SortStableFunc(environ, func(a, b string) int {
		a, _, _ = strings.Cut(a, "=")
		b, _, _ = strings.Cut(b, "=")
		return strings.Compare(a, b)
	})
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		if text == "" || !Configures(name) {
			continue
		}
		set(root, strings.Split(strings.TrimPrefix(name, Prefix), "__"), &value{origin: Origin{Variable: name}, scalar: true, text: text})
	}
}

func set(v *value, path []string, leaf *value) {
	name := match(v, path[0])
	if len(path) == 1 {
		// The other way to give the same secret gives way.
		if base, ok := strings.CutSuffix(name, "_file"); ok {
			yield(v, base)
		}
		yield(v, name+"_file")
		v.put(name, leaf)
		return
	}
	child := v.children[name]
	if child == nil || child.scalar {
		child = branch(leaf.origin)
		v.put(name, child)
	}
	set(child, path[1:], leaf)
}

// yield drops a value of the file. One of the environment stays, so that two
// variables which contradict each other are complained about.
func yield(v *value, name string) {
	if c, ok := v.children[name]; ok && c.origin.Variable == "" {
		v.drop(name)
	}
}

// match finds the name that a part of a variable means.
func match(v *value, part string) string {
	if v.list {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 {
			return strconv.Itoa(n)
		}
	}
	for _, name := range v.names {
		if variable(name) == part {
			return name
		}
	}
	return strings.ToLower(part)
}

// variable writes a name as parts of variables are written.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
			return r
		}
		return '_'
	}, name)
}
