package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile is far above any configuration and keeps a wrong path (a disk image)
// out of memory.
const maxFile = 1 << 20

// value is a node of the tree that file and environment are merged into. A list
// is a value whose names are "0", "1" and so on, so that a variable can set an
// element as it sets a field.
type value struct {
	origin Origin
	// text is set for scalars; names and children for the rest.
	scalar, null, list bool
	text               string
	// lines says that text is the content of a file.
	lines    bool
	names    []string
	children map[string]*value
}

func branch(o Origin) *value { return &value{origin: o, children: map[string]*value{}} }

func (v *value) put(name string, child *value) {
	if _, ok := v.children[name]; !ok {
		v.names = append(v.names, name)
	}
	v.children[name] = child
}

func (v *value) drop(name string) {
	delete(v.children, name)
	v.names = slices.DeleteFunc(v.names, func(n string) bool { return n == name })
}

// readFile parses a YAML file. Problems of the file itself go to problems.
func readFile(name string, problems *Errors) (*value, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("configuration: %w; name another with --config", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("configuration: %w", err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("configuration: %s has more than %d bytes; is it the right file?", name, maxFile)
	}
	p := parser{file: name, problems: problems}
	return p.parse(text), nil
}

type parser struct {
	file     string
	problems *Errors
}

func (p *parser) complain(line int, key, what, remedy string) {
	*p.problems = append(*p.problems, Problem{Key: key, Origin: Origin{File: p.file, Line: line}, What: what, Remedy: remedy})
}

func (p *parser) parse(text []byte) *value {
	root := branch(Origin{File: p.file})
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	err := d.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return root // an empty file sets nothing
	case err != nil:
		line, what := yamlError(err)
		p.complain(line, "", "this is not YAML: "+what, "mind the indentation, and quote values with special characters")
		return root
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		p.complain(more.Line, "", "the file has a second document", "keep one, without --- lines")
	}
	if len(doc.Content) == 0 {
		return root
	}
	top := p.node(doc.Content[0], "", doc.Content[0].Line)
	switch {
	case top == nil || top.null:
		return root
	case top.scalar || top.list:
		p.complain(doc.Content[0].Line, "", "the file must be a mapping of keys to values", "write it like this: listen: :9000")
		return root
	}
	return top
}

// yamlError takes the line out of the decoder's message ("yaml: line 3: …").
func yamlError(err error) (line int, what string) {
	what = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(what, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return n, text
			}
		}
	}
	return 0, what
}

// node converts a YAML node; nil after a complaint. line is that of its key,
// which is where people look.
func (p *parser) node(n *yaml.Node, key string, line int) *value {
	o := Origin{File: p.file, Line: line}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		p.complain(n.Line, key, "anchors and aliases are not taken", "write the value out")
		return nil
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return &value{origin: o, scalar: true, null: n.Tag == "!!null", text: n.Value}
	case yaml.SequenceNode:
		v := branch(o)
		v.list = true
		for i, item := range n.Content {
			child := p.node(item, fmt.Sprintf("%s[%d]", key, i), item.Line)
			if child == nil {
				child = &value{origin: o, scalar: true, null: true}
			}
			v.put(strconv.Itoa(i), child)
		}
		return v
	case yaml.MappingNode:
		v := branch(o)
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, at := n.Content[i].Value, n.Content[i].Line
			full := join(key, name)
			if n.Content[i].Kind != yaml.ScalarNode || n.Content[i].Tag == "!!merge" {
				p.complain(at, key, "a key must be a plain word", "write name: value")
				continue
			}
			if first, ok := v.children[name]; ok {
				p.complain(at, full, fmt.Sprintf("the key stands in line %d already", first.origin.Line), "remove one of them")
				continue
			}
			if child := p.node(n.Content[i+1], full, at); child != nil {
				v.put(name, child)
			}
		}
		return v
	}
	p.complain(n.Line, key, "this cannot be understood", "write name: value")
	return nil
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
