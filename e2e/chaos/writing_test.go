package chaos

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// writing is what a value says of itself.
type writing struct {
	token  int64
	client string
	serial int
	// parent is the id of the value that was read before.
	parent string
	// publication is its number where it belongs to one.
	publication int
	// padding is how many bytes follow the value in the object.
	padding int
}

func (w writing) id() string {
	if w.client == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", w.client, w.serial)
}

func (w writing) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%s/%d", w.token, w.client, w.serial)
	if w.publication != 0 {
		fmt.Fprintf(&b, "#%d", w.publication)
	}
	if w.padding != 0 {
		fmt.Fprintf(&b, "~%d", w.padding)
	}
	if w.parent != "" {
		b.WriteString("<" + w.parent)
	}
	return b.String()
}

// parseWriting reads a value; what is none has no client.
func parseWriting(value string) writing {
	var w writing
	head, parent, _ := strings.Cut(value, "<")
	head, padding, _ := strings.Cut(head, "~")
	head, publication, _ := strings.Cut(head, "#")
	token, rest, _ := strings.Cut(head, "/")
	client, serial, _ := strings.Cut(rest, "/")
	w.client, w.parent = client, parent
	w.token, _ = strconv.ParseInt(token, 10, 64)
	w.serial, _ = strconv.Atoi(serial)
	w.publication, _ = strconv.Atoi(publication)
	w.padding, _ = strconv.Atoi(padding)
	return w
}

// body is what is sent for a value.
func body(value string) []byte {
	text := value + "\n"
	if n := parseWriting(value).padding; n > 0 {
		text += strings.Repeat("x", n)
	}
	return []byte(text)
}

// valueOf is the value of a body, or, where the rest of it is not as it was sent,
// something that is no value.
func valueOf(text []byte) string {
	value, _, _ := strings.Cut(string(text), "\n")
	if string(body(value)) != string(text) {
		return fmt.Sprintf("damaged: %d bytes that begin with %.40q", len(text), text)
	}
	return value
}

// etags are what a list may show for a value.
func etags(value string) []string {
	sum := md5.Sum(body(value))
	whole := md5.Sum(sum[:])
	return []string{hex.EncodeToString(sum[:]), hex.EncodeToString(whole[:]) + "-1"}
}
