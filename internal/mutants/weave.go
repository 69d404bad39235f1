package mutants

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Environment names the mutant that a woven program runs; unset for none.
const Environment = "S3FENCE_PLANTED_MUTANT"

// switchFile is added to each package that has mutants, and switchName is what it
// declares there.
const (
	switchFile = "planted_mutants.go"
	switchName = "plantedMutant"
)

func switchSource(pkg string) []byte {
	return fmt.Appendf(nil, "package %s\n\nimport \"os\"\n\nvar %s = os.Getenv(%q)\n", pkg, switchName, Environment)
}

// once is where old stands in a source, which must be one place.
func once(source []byte, old string) (int, error) {
	switch n := bytes.Count(source, []byte(old)); {
	case old == "":
		return 0, fmt.Errorf("the old text is empty")
	case n != 1:
		return 0, fmt.Errorf("the old text stands there %d times, not once", n)
	}
	return bytes.Index(source, []byte(old)), nil
}

// replaced is the source with one mutant and nothing else.
func replaced(source []byte, m *Mutant) ([]byte, error) {
	at, err := once(source, m.Old)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", m.Name, m.File, err)
	}
	return slices.Concat(source[:at], []byte(m.New), source[at+len(m.Old):]), nil
}

// edit replaces a range of a source.
type edit struct {
	from, to int
	text     string
}

// weave puts the mutants of one Go source into it, all of them asleep, and returns
// the name of its package. Those that are not inside of a function are returned as
// apart. Lines keep their numbers, and a mutant's own are told as those of a file
// planted:NAME, so that the compiler's complaints name it.
func weave(source []byte, list []Mutant) (woven []byte, pkg string, apart []Mutant, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, "", nil, err
	}
	offset := func(p token.Pos) int { return files.PositionFor(p, false).Offset }
	var edits []edit
	named := map[*ast.FuncDecl]call{}
	var copies bytes.Buffer
	for i := range list {
		m := &list[i]
		at, err := once(source, m.Old)
		if err != nil {
			return nil, "", nil, fmt.Errorf("%s: %s: %w", m.Name, m.File, err)
		}
		f := enclosing(file, offset, at, at+len(m.Old))
		if f == nil {
			apart = append(apart, *m)
			continue
		}
		c, ok := named[f]
		if !ok {
			c = calling(f, offset)
			named[f] = c
			edits = append(edits, c.edits...)
		}
		mutant := f.Name.Name + "_" + strings.ReplaceAll(m.Name, "-", "_")
		edits = append(edits, edit{offset(f.Body.Lbrace) + 1, offset(f.Body.Lbrace) + 1, c.dispatch(m.Name, mutant)})

		from, to, name := offset(f.Pos()), offset(f.End()), offset(f.Name.Pos())
		fmt.Fprintf(&copies, "\n//line planted:%s:1\n%s%s%s%s%s\n", m.Name,
			source[from:name], mutant, source[name+len(f.Name.Name):at], m.New, source[at+len(m.Old):to])
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	rest := 0
	for _, e := range edits {
		woven = append(append(woven, source[rest:e.from]...), e.text...)
		rest = e.to
	}
	woven = append(append(woven, source[rest:]...), copies.Bytes()...)
	return woven, file.Name.Name, apart, nil
}

// enclosing is the function whose body contains a range.
func enclosing(file *ast.File, offset func(token.Pos) int, from, to int) *ast.FuncDecl {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && offset(f.Body.Lbrace) < from && to <= offset(f.Body.Rbrace) {
			return f
		}
	}
	return nil
}

// call is how a function hands its arguments on to its copy. Arguments without a
// name are given one.
type call struct {
	receiver, arguments string
	results             bool
	edits               []edit
}

func calling(f *ast.FuncDecl, offset func(token.Pos) int) call {
	c := call{results: f.Type.Results != nil}
	count := 0
	names := func(list *ast.FieldList) []string {
		var names []string
		for _, field := range list.List {
			if len(field.Names) == 0 {
				count++
				name := "planted" + strconv.Itoa(count)
				c.edits = append(c.edits, edit{offset(field.Type.Pos()), offset(field.Type.Pos()), name + " "})
				names = append(names, name)
			}
			for _, id := range field.Names {
				name := id.Name
				if name == "_" {
					count++
					name = "planted" + strconv.Itoa(count)
					c.edits = append(c.edits, edit{offset(id.Pos()), offset(id.End()), name})
				}
				names = append(names, name)
			}
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				names[len(names)-1] += "..."
			}
		}
		return names
	}
	if f.Recv != nil {
		c.receiver = names(f.Recv)[0] + "."
	}
	c.arguments = "(" + strings.Join(names(f.Type.Params), ", ") + ")"
	if f.Type.TypeParams != nil {
		c.arguments = "[" + strings.Join(names(f.Type.TypeParams), ", ") + "]" + c.arguments
	}
	return c
}

func (c *call) dispatch(name, mutant string) string {
	said := c.receiver + mutant + c.arguments
	if c.results {
		said = "return " + said
	} else {
		said += "; return"
	}
	return fmt.Sprintf(" if %s == %q { %s }; ", switchName, name, said)
}

// byFile groups mutants by their source, in the order of its name.
func byFile(list []Mutant) (names []string, groups map[string][]Mutant) {
	groups = map[string][]Mutant{}
	for _, m := range list {
		groups[m.File] = append(groups[m.File], m)
	}
	return slices.Sorted(maps.Keys(groups)), groups
}
