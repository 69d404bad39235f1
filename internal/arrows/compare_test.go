package arrows

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// confidential are the names of values that only their owner may learn. Fencing
// tokens are not among them: they are shown to everybody.
var confidential = regexp.MustCompile(`(?i)(signature|secret|secretkey|password|hmac|sessiontoken|apikey)$|^(mac|claimed)$`)

// leaky are the functions that take the longer the more of two values agrees.
var leaky = []string{"bytes.Equal", "bytes.Compare", "bytes.HasPrefix", "strings.EqualFold", "strings.Compare", "strings.HasPrefix", "slices.Equal", "reflect.DeepEqual", "cmp.Compare"}

// What only its owner may know is compared in constant time (crypto/subtle,
// hmac.Equal): how long an answer takes must not tell how much of a guess was right.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	t.Parallel()
	files, seen := token.NewFileSet(), 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "examples" || len(d.Name()) > 2 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen++
		for _, fault := range compared(files, f) {
			t.Error(fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d files were looked at", seen)
	}
}

// compared finds comparisons of secrets that take longer the more is right.
func compared(files *token.FileSet, f *ast.File) (faults []string) {
	fault := func(at ast.Node, name string) {
		faults = append(faults, fmt.Sprintf("%s: %s is compared in a time that tells how much of it is right; use hmac.Equal or crypto/subtle", files.Position(at.Pos()), name))
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op != token.EQL && n.Op != token.NEQ || known(n.X) || known(n.Y) {
				return true
			}
			if name := named(n.X) + " " + named(n.Y); confidential.MatchString(named(n.X)) || confidential.MatchString(named(n.Y)) {
				fault(n, strings.TrimSpace(name))
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(leaky, named(f.X)+"."+f.Sel.Name) && !slices.ContainsFunc(n.Args, known) {
				for _, arg := range n.Args {
					if confidential.MatchString(named(arg)) {
						fault(n, named(arg))
						break
					}
				}
			}
		}
		return true
	})
	return faults
}

// known reports whether a value stands in the source: whether something is there, or
// of which kind it is, may be asked.
func known(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		// config.NoSecret is the word that stands for none.
		return e.Name == "nil" || e.Name == "true" || e.Name == "false" || e.Name == "NoSecret"
	}
	return false
}

// named is the last name of an expression: of c.signature, signature.
func named(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.ParenExpr:
		return named(e.X)
	case *ast.StarExpr:
		return named(e.X)
	case *ast.SliceExpr:
		return named(e.X)
	case *ast.IndexExpr:
		return named(e.X)
	case *ast.UnaryExpr:
		return named(e.X)
	case *ast.CallExpr:
		if len(e.Args) == 1 {
			if _, conversion := e.Fun.(*ast.ArrayType); conversion || named(e.Fun) == "string" {
				return named(e.Args[0])
			}
		}
		return named(e.Fun)
	}
	return ""
}

func TestCompared(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]int{
		`want == c.signature`:                        1,
		`string(want) != string(c.signature)`:        1,
		`bytes.Equal(mac, []byte(c.signature))`:      1,
		`strings.EqualFold(h, sessionToken)`:         1,
		`strings.HasPrefix(r.secretKey, x)`:          1,
		`*p.SecretKey == given`:                      1,
		`cred.password[:] == given`:                  1,
		`hmac.Equal(mac, []byte(c.signature))`:       0,
		`subtle.ConstantTimeCompare(a, secret) == 1`: 0,
		`c.signature == ""`:                          0,
		`secret != nil`:                              0,
		`p.Name == "X-Amz-Signature"`:                0,
		`len(secret) == n`:                           0,
		`op.Request.Token == c.Token`:                0,
	} {
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, "x.go", "package x\nvar _ = "+expr, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := compared(files, f); len(got) != want {
			t.Errorf("%s: %v", expr, got)
		}
	}
}
