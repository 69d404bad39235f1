package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSecret bounds the file of a secret, in bytes.
const maxSecret = 64 << 10

// decoder fills the struct from the tree, by the tags of its fields.
type decoder struct {
	dir      string // of the file
	origins  map[string]Origin
	problems *Errors
}

func (d *decoder) complain(key string, o Origin, what, remedy string) {
	*d.problems = append(*d.problems, Problem{Key: key, Origin: o, What: what, Remedy: remedy})
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()
	secretsType  = reflect.TypeFor[[]Secret]()
	stateType    = reflect.TypeFor[State]()
	pathType     = reflect.TypeFor[Path]()
)

// decode dispatches on the type that the key has. tag is that of the field.
func (d *decoder) decode(into reflect.Value, v *value, key string, tag reflect.StructTag) {
	d.origins[key] = v.origin
	switch into.Kind() {
	case reflect.Struct:
		d.fields(into, v, key)
	case reflect.Map:
		d.named(into, v, key)
	case reflect.Slice:
		d.elements(into, v, key, tag)
	default:
		if !v.scalar {
			d.complain(key, v.origin, "a single value is wanted here", "write "+lastName(key)+": value")
			return
		}
		if what, remedy := d.scalar(into, v, tag); what != "" {
			d.complain(key, v.origin, what, remedy)
		}
	}
}

// fields fills a struct; v may be nil, then defaults alone do.
func (d *decoder) fields(into reflect.Value, v *value, key string) {
	if v != nil && (v.list || v.scalar && !v.null) {
		d.complain(key, v.origin, "a mapping of keys to values is wanted here", "its keys are "+strings.Join(names(into.Type()), ", "))
		v = nil
	}
	known := map[string]bool{}
	for i := range into.NumField() {
		f := into.Type().Field(i)
		name, ok := f.Tag.Lookup("key")
		if !ok {
			continue
		}
		known[name] = true
		full := join(key, name)
		if text, ok := f.Tag.Lookup("default"); ok {
			if what, _ := d.scalar(into.Field(i), &value{scalar: true, text: text}, f.Tag); what != "" {
				panic(full + ": bad default: " + what)
			}
		}
		d.origins[full] = Origin{}
		var child *value
		if v != nil {
			child = v.children[name]
		}
		if fromFile(f.Type) {
			known[name+"_file"] = true
			child = d.secret(v, child, name, full)
			if f.Type == secretsType {
				child = splitLines(child)
			}
		}
		switch {
		case child != nil && !child.null:
			d.decode(into.Field(i), child, full, f.Tag)
		case f.Type.Kind() == reflect.Struct:
			d.fields(into.Field(i), nil, full)
		}
	}
	if v == nil {
		return
	}
	for _, name := range v.names {
		if !known[name] {
			d.unknown(join(key, name), name, v.children[name].origin, names(into.Type()))
		}
	}
}

func (d *decoder) unknown(key, name string, o Origin, known []string) {
	remedy := "the keys here are " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		remedy = "did you mean " + near + "?"
	}
	d.complain(key, o, "there is no such key", remedy)
}

// fromFile reports whether a key of a type can be given as NAME_file too.
func fromFile(t reflect.Type) bool { return t == secretType || t == secretsType || t == stateType }

// secret takes NAME or the content of NAME_file.
func (d *decoder) secret(v, child *value, name, full string) *value {
	if v == nil {
		return child
	}
	file := v.children[name+"_file"]
	if file == nil || file.null {
		return child
	}
	if child != nil {
		d.complain(full, child.origin, fmt.Sprintf("%s and %s_file are both set", name, name), "keep one")
		return nil
	}
	if !file.scalar {
		d.complain(full+"_file", file.origin, "the name of a file is wanted here", "")
		return nil
	}
	text, err := readSecret(d.resolve(file))
	if err != nil {
		d.complain(full+"_file", file.origin, err.Error(), "check path and permissions")
		return nil
	}
	return &value{origin: file.origin, scalar: true, text: text, lines: true}
}

func readSecret(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch s := strings.TrimRight(string(text), "\r\n"); {
	case err != nil:
		return "", err
	case len(text) > maxSecret:
		return "", fmt.Errorf("%s is too long for a secret", name)
	case s == "":
		return "", fmt.Errorf("%s is empty", name)
	default:
		return s, nil
	}
}

// resolve makes a path of the file relative to the file's directory.
func (d *decoder) resolve(v *value) string {
	if v.origin.Variable != "" || d.dir == "" || filepath.IsAbs(v.text) {
		return v.text
	}
	return filepath.Join(d.dir, v.text)
}

// named fills a map of structs, whose names the user chooses.
func (d *decoder) named(into reflect.Value, v *value, key string) {
	if v.scalar || v.list {
		d.complain(key, v.origin, "a mapping of names to settings is wanted here", fmt.Sprintf("write %s: {NAME: {…}}", lastName(key)))
		return
	}
	m := reflect.MakeMap(into.Type())
	for _, name := range v.names {
		item := reflect.New(into.Type().Elem()).Elem()
		full := join(key, name)
		d.origins[full] = v.children[name].origin
		d.fields(item, v.children[name], full)
		m.SetMapIndex(reflect.ValueOf(name), item)
	}
	into.Set(m)
}

// elements fills a list, of structs or of words.
func (d *decoder) elements(into reflect.Value, v *value, key string, tag reflect.StructTag) {
	words := into.Type().Elem().Kind() == reflect.String
	if v.scalar && v.origin.Variable != "" && words {
		v = splitWords(v)
	}
	if v.scalar || !v.list && v.origin.Variable == "" {
		d.complain(key, v.origin, "a list is wanted here", fmt.Sprintf("write %s: [a, b]", lastName(key)))
		return
	}
	list := reflect.MakeSlice(into.Type(), 0, len(v.names))
	for i := range len(v.names) {
		child := v.children[strconv.Itoa(i)]
		if child == nil {
			odd := slices.IndexFunc(v.names, func(n string) bool { k, err := strconv.Atoi(n); return err != nil || k >= len(v.names) || k < 0 })
			d.complain(join(key, v.names[odd]), v.children[v.names[odd]].origin, fmt.Sprintf("the list has no element %d", i), "number elements from 0 without gaps")
			return
		}
		item := reflect.New(into.Type().Elem()).Elem()
		full := fmt.Sprintf("%s[%d]", key, i)
		d.origins[full] = child.origin
		if words {
			if !child.scalar || child.null {
				d.complain(full, child.origin, "a word is wanted here", "")
				continue
			}
			d.decode(item, child, full, tag)
		} else {
			d.fields(item, child, full)
		}
		list = reflect.Append(list, item)
	}
	into.Set(list)
}

func splitWords(v *value) *value {
	l := branch(v.origin)
	l.list = true
	for w := range strings.SplitSeq(v.text, ",") {
		if w = strings.TrimSpace(w); w != "" {
			l.put(strconv.Itoa(len(l.names)), &value{origin: v.origin, scalar: true, text: w})
		}
	}
	return l
}

// splitLines makes a list of what came from a file, one element a line.
func splitLines(v *value) *value {
	if v == nil || !v.lines {
		return v
	}
	l := branch(v.origin)
	l.list = true
	for line := range strings.Lines(v.text) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.put(strconv.Itoa(len(l.names)), &value{origin: v.origin, scalar: true, text: line})
		}
	}
	return l
}

// scalar fills one value and says what is wrong with it.
func (d *decoder) scalar(into reflect.Value, v *value, tag reflect.StructTag) (what, remedy string) {
	switch {
	case into.Type() == durationType:
		t, err := parseDuration(v.text)
		if err != nil {
			return fmt.Sprintf("%q is not a duration", v.text), "write 10s, 15m, 24h or 7d"
		}
		into.SetInt(int64(t))
		lo, hi := tag.Get("min"), tag.Get("max")
		if least, err := parseDuration(lo); lo != "" && (err != nil || t < least) {
			return fmt.Sprintf("%s is too short", v.text), fmt.Sprintf("it may be from %s to %s", lo, hi)
		}
		if most, err := parseDuration(hi); hi != "" && (err != nil || t > most) {
			return fmt.Sprintf("%s is too long", v.text), fmt.Sprintf("it may be from %s to %s", lo, hi)
		}
	case into.Type() == pathType:
		into.SetString(d.resolve(v))
	case into.Kind() == reflect.String:
		if of := tag.Get("oneof"); of != "" && !slices.Contains(strings.Split(of, ","), v.text) {
			return fmt.Sprintf("%q is not possible here", v.text), "it may be " + strings.ReplaceAll(of, ",", ", ")
		}
		into.SetString(v.text)
	case into.Kind() == reflect.Bool:
		b, ok := map[string]bool{"true": true, "false": false}[v.text]
		if !ok {
			return fmt.Sprintf("%q is not possible here", v.text), "it may be true or false"
		}
		into.SetBool(b)
	case into.Kind() == reflect.Int64:
		n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is not a whole number", v.text), "write it in decimal digits"
		}
		into.SetInt(n)
		if lo := tag.Get("min"); lo != "" {
			if least, err := strconv.ParseInt(lo, 10, 64); err != nil || n < least {
				return fmt.Sprintf("%d is too small", n), "it must be at least " + lo
			}
		}
		if hi := tag.Get("max"); hi != "" {
			if most, err := strconv.ParseInt(hi, 10, 64); err != nil || n > most {
				return fmt.Sprintf("%d is too large", n), "it may be at most " + hi
			}
		}
	default:
		panic("config: no way to read a " + into.Type().String())
	}
	return "", ""
}

var errDuration = errors.New("not a duration")

// parseDuration is time.ParseDuration with days as a leading unit: 7d, 1d12h.
func parseDuration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	var t time.Duration
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err != nil || n < 0 || n > 36500 {
			return 0, errDuration
		}
		if t = time.Duration(n) * day; rest == "" {
			return t, nil
		}
		s = rest
	}
	u, err := time.ParseDuration(s)
	if err != nil || u < 0 || t+u < t {
		return 0, errDuration
	}
	return t + u, nil
}

// names are the keys of a struct.
func names(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if name, ok := t.Field(i).Tag.Lookup("key"); ok {
			out = append(out, name)
			if fromFile(t.Field(i).Type) {
				out = append(out, name+"_file")
			}
		}
	}
	return out
}

func lastName(key string) string {
	if at := strings.LastIndexByte(key, '.'); at >= 0 {
		return key[at+1:]
	}
	return key
}
