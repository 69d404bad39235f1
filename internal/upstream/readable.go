package upstream

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Unreadable reports whether XML 1.0 cannot hold a character, be it written as
// itself or as a reference. Source: production [2] Char in
// https://www.w3.org/TR/xml/#charsets.
func Unreadable(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', ' ' <= r && r <= 0xD7FF, 0xE000 <= r && r <= 0xFFFD, 0x10000 <= r && r <= utf8.MaxRune:
		return false
	}
	return true
}

// Readable is a document of a store for parsers of XML 1.0, byte for byte as long
// as it was: what they refuse is question marks. Stores write such characters of
// keys all the same, as references (S3 does, in lists) or bare, and one in the echo of a
// key must not hide what else the document says. Names that are read from it are
// not to be trusted. doc is left as it is, and returned where nothing is to mend.
func Readable(doc []byte) []byte {
	out := doc
	mend := func(from, to int) {
		if &out[0] == &doc[0] {
			out = bytes.Clone(doc)
		}
		for i := from; i < to; i++ {
			out[i] = '?'
		}
	}
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '&':
			n := reference(doc[i:])
			if n > 0 {
				mend(i, i+n)
			}
			i += max(n, 1)
		case c >= ' ' && c < utf8.RuneSelf:
			i++
		default:
			r, width := utf8.DecodeRune(doc[i:])
			if Unreadable(r) || r == utf8.RuneError && width == 1 {
				mend(i, i+width)
			}
			i += width
		}
	}
	return out
}

// reference is the length of a numeric character reference that text begins with
// and that XML 1.0 does not know; 0 where there is none.
func reference(text []byte) int {
	const longest = 16 // more digits, all zero but the last, are nobody's habit
	end := bytes.IndexByte(text[:min(len(text), longest)], ';')
	if end < 3 || text[1] != '#' {
		return 0
	}
	digits, base := text[2:end], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(string(digits), base, 32)
	if err != nil || n > utf8.MaxRune || !Unreadable(rune(n)) {
		return 0
	}
	return end + 1
}
