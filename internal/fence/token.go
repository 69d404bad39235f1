package fence

import (
	"errors"
	"fmt"
	"strconv"
)

// Token is a fencing token: 1 or more, larger for each new holder. Zero means
// "no token". Tokens granted by s3fence are incarnation·2^40 + counter and stay
// below 2^53, so that every JSON reader keeps them exact; external issuers may
// use the whole positive range of int64.
type Token int64

// Generation counts the resets of a scope whose tokens come from an external
// issuer. It starts at 1; zero means "the request named none".
type Generation int64

// CounterBits is the width of a token's counter; the incarnation of the state
// database stands above it.
const CounterBits = 40

// MaxGranted is the largest token that s3fence itself grants.
const MaxGranted Token = 1<<53 - 1

// FirstGeneration is the generation of a scope that was never reset.
const FirstGeneration Generation = 1

// ErrBadToken is wrapped by every error of [ParseToken]. The caller must send a
// token that a lock service gave it.
var ErrBadToken = errors.New("not a fencing token")

// ParseToken reads a token in its one written form: decimal digits without
// sign, space or leading zero, from 1 to 2^63-1. One form only, because two
// spellings of a number are two ways past a comparison of strings elsewhere.
func ParseToken(s string) (Token, error) {
	bad := func(why string) (Token, error) {
		return 0, fmt.Errorf("%w: %s is %s; a token is a whole number from 1 to 9223372036854775807, as the lock service printed it", ErrBadToken, quote(s), why)
	}
	if s == "" {
		return bad("empty")
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return bad("not made of decimal digits")
		}
	}
	if s[0] == '0' {
		return bad("zero or written with a leading zero")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return bad("too large")
	}
	return Token(n), nil
}

// quote bounds what a stranger can make us print.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// MakeToken joins an incarnation of the state with a value of its counter. It
// fails when either does not fit: the counter of this incarnation is used up,
// or the state claims an incarnation that cannot be.
func MakeToken(incarnation, counter int64) (Token, error) {
	if incarnation < 0 || incarnation >= 1<<(53-CounterBits) {
		return 0, fmt.Errorf("incarnation %d of the state is outside 0..%d", incarnation, 1<<(53-CounterBits)-1)
	}
	if counter < 1 || counter >= 1<<CounterBits {
		return 0, fmt.Errorf("token counter %d is outside 1..%d", counter, int64(1)<<CounterBits-1)
	}
	return Token(incarnation<<CounterBits | counter), nil
}

// String is the token in decimal.
func (t Token) String() string { return strconv.FormatInt(int64(t), 10) }

// MarshalText writes the token in decimal.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Mark is the highest token granted or admitted for a scope, with the
// generation it belongs to. The zero Mark means that no token was ever seen.
type Mark struct {
	Generation Generation
	Token      Token
}

// Current is the generation in force: a scope that has no row yet is in its
// first.
func (m Mark) Current() Generation { return max(m.Generation, FirstGeneration) }

// Below reports whether m comes before n (F1 allows a mark to change only to
// one that it is below).
func (m Mark) Below(n Mark) bool {
	if m.Current() != n.Current() {
		return m.Current() < n.Current()
	}
	return m.Token < n.Token
}
