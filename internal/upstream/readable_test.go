package upstream

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestReadable(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"":                             "",
		"<a>b &amp; c</a>\t\r\n":       "<a>b &amp; c</a>\t\r\n",
		"<a>\x01\x7f</a>":              "<a>?\x7f</a>",
		"a&#x1;b&#x1B;c&#1;d&#xfffe;":  "a?????b??????c????d????????",
		"&#x00;&#0;&#xD800;":           "??????" + "????" + "????????",
		"&#x9;&#10;&#xD;&#x20;é\uFFFD": "&#x9;&#10;&#xD;&#x20;é\uFFFD",
		"\uFFFE\uFFFF\xff":             "???" + "???" + "?",
		"&#;&#x;&#xg;&;&#x1":           "&#;&#x;&#xg;&;&#x1",
	} {
		given := []byte(doc)
		if got := string(Readable(given)); got != want {
			t.Errorf("%q: %q, want %q", doc, got, want)
		}
		if string(given) != doc {
			t.Errorf("%q was changed in place", doc)
		}
	}
}

// Of a document that is mended nothing is left that a parser calls illegal, and
// every offset stays what it was.
func FuzzReadable(f *testing.F) {
	f.Add("<Error><Code>NoSuchKey</Code><Key>k&#x1b;[0m</Key></Error>")
	f.Add("<a>\x00\xff&#xFFFE;&#0000000000000000001;</a>")
	f.Add("&")
	f.Fuzz(func(t *testing.T, doc string) {
		out := Readable([]byte(doc))
		if len(out) != len(doc) {
			t.Fatalf("%q of %d bytes became %d", doc, len(doc), len(out))
		}
		d := xml.NewDecoder(strings.NewReader(string(out)))
		for {
			_, err := d.RawToken()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				if strings.Contains(err.Error(), "illegal character code") && !strings.Contains(doc, "&#") {
					t.Fatalf("%q mended is %q: %v", doc, out, err)
				}
				return
			}
		}
	})
}

// The echo of a key that XML cannot hold hides no answer, written as a
// reference or bare.
func TestErrorsAboutOddKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"k&#x1;", "k&#x1b;[0m", "k\x01", "k\uFFFE"} {
		body := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>NoSuchKey</Code><Message>none</Message><Key>" + key + "</Key><RequestId>7</RequestId></Error>"
		c, _ := answering(t, plain(404, body))
		_, err := c.GetObject(t.Context(), "b", "k", "", nil)
		if !HasCode(err, "NoSuchKey") {
			t.Errorf("%q: %v", key, err)
		}
		// In the body of a 200, as copies and completions may fail.
		c, _ = answering(t, plain(200, strings.ReplaceAll(body, "NoSuchKey", "InternalError")))
		_, err = c.Do(t.Context(), &Request{Method: http.MethodPut, Bucket: "b", Key: "k", Mutation: true})
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != "InternalError" || e.Err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
}
