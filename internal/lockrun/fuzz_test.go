package lockrun

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzInterpretable: a file is refused only where its first line names an interpreter
// that is not there.
func FuzzInterpretable(f *testing.F) {
	for _, s := range []string{"#!/bin/sh\n", "#! /bin/sh -e\r\n", "#!/nowhere/sh\n", "#!\n", "#!   \n", "", "\x7fELF", "#!" + strings.Repeat("/", 400), "#!\x00/bin/sh\n", "#!sh\n"} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "program")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if interpretable(path) {
			return
		}
		line, _, _ := strings.Cut(string(content[:min(len(content), 256)]), "\n")
		words := strings.Fields(strings.TrimPrefix(line, "#!"))
		if !strings.HasPrefix(line, "#!") || len(words) == 0 {
			t.Fatalf("%q is refused, which names no interpreter", line)
		}
		if _, err := os.Stat(words[0]); err == nil {
			t.Fatalf("%q is refused, but it is there", words[0])
		}
	})
}
