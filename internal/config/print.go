package config

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Entry is one setting as it is in force.
type Entry struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Entries are all settings with secrets hidden, in the order of the struct, names
// sorted.
func (c *Config) Entries() []Entry {
	var out []Entry
	c.walk(reflect.ValueOf(c).Elem(), "", &out)
	return out
}

// Redacted writes Entries as aligned lines: key: value  # origin.
func (c *Config) Redacted(w io.Writer) error {
	entries := c.Entries()
	lines, width := make([]string, len(entries)), 0
	for i, e := range entries {
		lines[i] = e.Key + ": " + e.Value
		width = min(max(width, len(lines[i])), 72)
	}
	for i, e := range entries {
		if _, err := fmt.Fprintf(w, "%-*s  # %s\n", width, lines[i], e.Origin); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) walk(v reflect.Value, key string, out *[]Entry) {
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if name, ok := v.Type().Field(i).Tag.Lookup("key"); ok {
				c.walk(v.Field(i), join(key, name), out)
			}
		}
	case v.Kind() == reflect.Map:
		m := v.Interface()
		switch m := m.(type) {
		case map[string]Upstream:
			walkNames(c, m, key, out)
		case map[string]Bucket:
			walkNames(c, m, key, out)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			c.walk(v.Index(i), fmt.Sprintf("%s[%d]", key, i), out)
		}
	default:
		var text string
		switch x := v.Interface().(type) {
		case time.Duration:
			text = writeDuration(x)
		case Secret:
			if text = hidden; x == "" {
				text = ""
			}
		case []string:
			text = "[" + strings.Join(x, ", ") + "]"
		case []Secret:
			text = "[" + strings.Join(slices.Repeat([]string{hidden}, len(x)), ", ") + "]"
		default:
			text = fmt.Sprint(x)
		}
		if text == "" {
			text = `""`
		}
		o := c.origins[key]
		*out = append(*out, Entry{key, text, o.String()})
	}
}

func walkNames[V any](c *Config, m map[string]V, key string, out *[]Entry) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		c.walk(reflect.ValueOf(m[name]), join(key, name), out)
	}
}

// writeDuration is the shortest way to write a duration that is read back.
func writeDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
