package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// planter builds tests of the module at root with mutants in it, below dir.
type planter struct {
	root, dir string
}

// overlay is what go build -overlay reads: the text of another file for each file.
type overlay struct {
	Replace map[string]string
}

// weaveAll writes one overlay with all mutants that can be woven in, and returns its
// name and the mutants that cannot.
func (p *planter) weaveAll(list []Mutant) (name string, apart []Mutant, err error) {
	var o overlay
	files, groups := byFile(list)
	for _, file := range files {
		if !strings.HasSuffix(file, ".go") {
			apart = append(apart, groups[file]...)
			continue
		}
		source, err := os.ReadFile(filepath.Join(p.root, file))
		if err != nil {
			return "", nil, err
		}
		woven, pkg, others, err := weave(source, groups[file])
		if err != nil {
			return "", nil, err
		}
		apart = append(apart, others...)
		if len(others) == len(groups[file]) {
			continue
		}
		if err := p.put(&o, file, woven); err != nil {
			return "", nil, err
		}
		if err := p.put(&o, filepath.Join(filepath.Dir(file), switchFile), switchSource(pkg)); err != nil {
			return "", nil, err
		}
	}
	name, err = p.write(o, "woven")
	return name, apart, err
}

// alone writes the overlay of one mutant that is built by itself.
func (p *planter) alone(m *Mutant) (name string, err error) {
	source, err := os.ReadFile(filepath.Join(p.root, m.File))
	if err != nil {
		return "", err
	}
	mutated, err := replaced(source, m)
	if err != nil {
		return "", err
	}
	var o overlay
	if err := p.put(&o, m.File, mutated); err != nil {
		return "", err
	}
	return p.write(o, m.Name)
}

// put adds a file to an overlay.
func (p *planter) put(o *overlay, file string, text []byte) error {
	if o.Replace == nil {
		o.Replace = map[string]string{}
	}
	f, err := os.CreateTemp(p.dir, "*-"+filepath.Base(file))
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	o.Replace[filepath.Join(p.root, file)] = f.Name()
	return f.Close()
}

func (p *planter) write(o overlay, name string) (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	name = filepath.Join(p.dir, name+".json")
	return name, os.WriteFile(name, text, 0o600)
}

// build makes the test program of a package. What the compiler says is the error.
func (p *planter) build(ctx context.Context, t Test, overlay, program string) error {
	c := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-tags="+t.Tags, "-overlay="+overlay, "-o", program, "./"+t.Package)
	c.Dir = p.root
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("it does not build: %w\n%s", err, said.Bytes())
	}
	return nil
}
