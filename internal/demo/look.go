package demo

import (
	"cmp"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Widths in columns. What is piped is as wide as a terminal was for forty years.
const (
	usualWidth = 80
	leastWidth = 64
	mostWidth  = 120
)

// look is how the output looks.
type look struct {
	// live: lines may be redrawn. colour: escapes for colours may be used. ascii:
	// nothing beyond ASCII is drawn.
	live, colour, ascii bool
	// width asks for the width; it may change while the demo runs.
	width func() int
}

// lookOf looks at where the output goes. ascii, where it is not nil, is what the
// caller wants; else terminals with a UTF-8 locale get more than ASCII.
func lookOf(out io.Writer, ascii *bool, getenv func(string) string) look {
	f, ok := out.(*os.File)
	if !ok {
		return lookOfPipe(ascii)
	}
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return lookOfPipe(ascii)
	}
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	l := look{ascii: !strings.Contains(locale, "UTF-8") && !strings.Contains(locale, "UTF8"), width: func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 {
			return usualWidth
		}
		return max(leastWidth, min(int(size.Col), mostWidth))
	}}
	l.live = getenv("TERM") != "dumb"
	l.colour = l.live && getenv("NO_COLOR") == ""
	if ascii != nil {
		l.ascii = *ascii
	}
	return l
}

func lookOfPipe(ascii *bool) look {
	return look{ascii: ascii == nil || *ascii, width: func() int { return usualWidth }}
}

// style says what a text is, for its colour.
type style string

// Styles are the parameters of ECMA-48's SGR: the eight colours that every
// terminal lets its owner choose.
const (
	plain  style = ""
	faint  style = "2"
	strong style = "1"
	bad    style = "1;31"
	good   style = "1;32"
	annIs  style = "36"
	bobIs  style = "33"
	frost  style = "1;34"
)

// paint colours a text of one line.
func (l look) paint(s style, text string) string {
	if !l.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// glyph is one thing that is drawn.
type glyph int

const (
	runs glyph = iota
	waiting
	ice
	success
	refusal
	leaseFrom
	leaseOn
	leaseTo
	axis
	tick
	stands
	glyphs
)

// glyphsOf are the signs of each glyph, and their stand-ins in ASCII.
var glyphsOf = [glyphs]struct{ fine, ascii rune }{
	runs: {'━', '='}, waiting: {'·', '.'}, ice: {'░', '#'},
	success: {'✓', 'W'}, refusal: {'✗', 'X'},
	leaseFrom: {'├', '['}, leaseOn: {'─', '-'}, leaseTo: {'┤', ']'},
	axis: {'─', '-'}, tick: {'┬', '+'}, stands: {'─', '-'},
}

func (l look) draw(g glyph) rune {
	if l.ascii {
		return glyphsOf[g].ascii
	}
	return glyphsOf[g].fine
}

// wrap breaks a text into lines of at most width columns, at spaces where there
// are any.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		for len([]rune(word)) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:width])), string(r[width:])
		}
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
