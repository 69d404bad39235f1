package corpus

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"
)

//go:embed testdata
var files embed.FS

// Message is a request or an answer as it went over the wire.
type Message struct {
	// From is the client that sent it, or the store.
	From string
	// Operation is S3's name of what was asked for.
	Operation string
	// TLS says that it came over TLS.
	TLS bool
	// Whole says that nothing of the body was cut off.
	Whole bool
	// File names it in messages of tests.
	File string
	Raw  []byte
}

// Requests are what clients asked for, sorted by file.
func Requests(tb testing.TB) []Message { return read(tb, "testdata/requests") }

// Answers are what stores answered, sorted by file.
func Answers(tb testing.TB) []Message { return read(tb, "testdata/answers") }

// Seeds are those of the requests that a fuzz target begins from: one for each
// operation, kind of payload and place of the signature. A target runs all of its seeds
// before it tries anything else, and has a second in make test.
func Seeds(tb testing.TB) []Message {
	tb.Helper()
	var few []Message
	seen := map[string]bool{}
	for _, m := range Requests(tb) {
		r, err := m.Request()
		if err != nil {
			tb.Fatalf("%s: %v", m.File, err)
		}
		payload := r.Header.Get("X-Amz-Content-Sha256")
		if len(payload) == 64 {
			payload = ""
		}
		kind := fmt.Sprint(m.Operation, payload, r.Header.Get("Authorization") == "", r.ContentLength > 0, r.Header.Get("Expect"))
		if !seen[kind] {
			seen[kind] = true
			few = append(few, m)
		}
	}
	return few
}

func read(tb testing.TB, root string) (all []Message) {
	tb.Helper()
	err := fs.WalkDir(files, root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := files.ReadFile(file)
		if err != nil {
			return err
		}
		m := Message{File: strings.TrimPrefix(file, "testdata/"), Raw: raw}
		m.From, m.TLS = strings.CutSuffix(path.Base(path.Dir(file)), "-tls")
		name, _, _ := strings.Cut(path.Base(file), ".")
		m.Operation, _, _ = strings.Cut(name, "-")
		m.Whole = !strings.HasSuffix(file, ".cut.http")
		all = append(all, m)
		return nil
	})
	if err != nil || len(all) == 0 {
		tb.Fatalf("%d messages under %s: %v", len(all), root, err)
	}
	return all
}

// Secrets are the secret keys by access key, those of temporary credentials among
// them.
func Secrets(tb testing.TB) map[string]string {
	tb.Helper()
	var secrets map[string]string
	text, err := files.ReadFile("testdata/secrets.json")
	if err == nil {
		err = json.Unmarshal(text, &secrets)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return secrets
}

// Request reads the message as a server does.
func (m Message) Request() (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(bytes.NewReader(m.Raw)))
}

// Body is what stands behind the head, in the framing in which it was sent.
func (m Message) Body() []byte {
	_, body, _ := bytes.Cut(m.Raw, []byte("\r\n\r\n"))
	return body
}

// Target is path and query of a request, as sent.
func (m Message) Target() (path, query string) {
	line, _, _ := bytes.Cut(m.Raw, []byte("\r\n"))
	words := strings.Fields(string(line))
	if len(words) < 2 {
		return "", ""
	}
	path, query, _ = strings.Cut(words[1], "?")
	return path, query
}

// SignedAt is when a request says that it was signed; the zero time where it does not.
func SignedAt(r *http.Request) time.Time {
	for _, text := range []string{r.Header.Get("X-Amz-Date"), r.URL.Query().Get("X-Amz-Date")} {
		if t, err := time.Parse("20060102T150405Z", text); err == nil {
			return t
		}
	}
	if t, err := http.ParseTime(r.Header.Get("Date")); err == nil {
		return t
	}
	return time.Time{}
}

func (m Message) String() string { return fmt.Sprintf("%s (%s)", m.File, m.Operation) }
