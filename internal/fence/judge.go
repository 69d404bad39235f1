package fence

import (
	"fmt"
	"time"
)

// Access is what an operation does to a scope.
type Access int

// Read looks, Write changes what can be seen, Stage prepares a write that
// nobody can see yet (creating an upload, sending a part).
const (
	Read Access = iota
	Write
	Stage
)

// Request is what an operation says of itself where the fence is concerned.
type Request struct {
	Access Access
	// Token is the presented token; zero where the request has none.
	Token Token
	// Generation is the generation that the request names; zero: none.
	Generation Generation
	// Named says that the request (or its credentials) names the scope. External
	// tokens mean nothing without it (F8).
	Named bool
	// Unfenced says that the caller's credential may write without a token.
	Unfenced bool
	// MayRaise says that the caller may write here and so may raise the mark of
	// an external issuer.
	MayRaise bool
}

// Verdict is the rule's answer.
type Verdict int

// The verdicts. Only Admitted and Raises let an operation through.
const (
	// Admitted: go on. An admitted verdict is true only as long as the scope's
	// lock is held; it is never remembered.
	Admitted Verdict = iota
	// Raises: as Admitted, once the mark is raised to the request's token in the
	// same transaction, under the exclusive lock.
	Raises
	// Stale: the token is below the mark. True for ever in its generation.
	Stale
	// Missing: the guard asks for a token and there is none.
	Missing
	// NotTaken: the guard takes no tokens.
	NotTaken
	// NeverGranted: above the mark although s3fence grants the tokens here.
	NeverGranted
	// Unnamed: an external token without its scope.
	Unnamed
	// MayNotRaise: an external token above the mark from a caller who may not
	// write here.
	MayNotRaise
	// TooFar: an external token more than MaxJump above the mark.
	TooFar
	// OtherGeneration: the request names no generation, or another one, and the
	// scope was reset.
	OtherGeneration
	// NotActive: the guard is being added or removed; come back.
	NotActive
)

// Judge is the rule. g is the scope's guard and m its mark, both as read under
// the scope's lock; r is the request.
//
// F3 is the comparison with the mark; F8 is everything around it.
func Judge(g *Guard, m Mark, r Request) Verdict {
	if g.State != Active && r.Access != Read {
		return NotActive
	}
	if r.Token == 0 {
		if r.Access == Read || g.Tokens != Required || r.Unfenced {
			return Admitted
		}
		return Missing
	}
	switch {
	case g.Tokens == None:
		return NotTaken
	case g.Issuer == External && !r.Named:
		return Unnamed
	case r.Generation != m.Current() && (r.Generation != 0 || m.Current() != FirstGeneration):
		return OtherGeneration
	case r.Token < m.Token:
		return Stale
	case r.Token == m.Token:
		return Admitted
	case g.Issuer == Own:
		return NeverGranted
	case !r.MayRaise:
		return MayNotRaise
	case m.Token != 0 && int64(r.Token-m.Token) > g.MaxJump:
		return TooFar
	}
	return Raises
}

// Grant describes who was given a token, for messages.
type Grant struct {
	// Holder is the access key that acquired, Owner the label it gave.
	Holder, Owner string
	// At is when, by the database's clock.
	At time.Time
}

// Refusal is the error of an operation that the rule did not let through.
type Refusal struct {
	Verdict Verdict
	Scope   Scope
	Guard   *Guard
	// Token is what was presented, Mark what stood against it.
	Token Token
	Mark  Mark
	// Last is the latest grant, where s3fence grants and there was one.
	Last Grant
	// Now is the database's time of the verdict, estimated where it was remembered;
	// zero where it is not known. It is for words only.
	Now time.Time
}

// Refuse builds the error for a verdict that is neither Admitted nor Raises.
func Refuse(v Verdict, s Scope, g *Guard, m Mark, r Request) *Refusal {
	return &Refusal{Verdict: v, Scope: s, Guard: g, Token: r.Token, Mark: m}
}

// Error says what is wrong and what to do, in words for the person who wrote
// the client.
func (e *Refusal) Error() string {
	switch e.Verdict {
	case Stale:
		who := ""
		if e.Last.Owner != "" {
			who = " to " + e.Last.Owner
		}
		verb := "granted" + who
		if e.Guard != nil && e.Guard.Issuer == External {
			verb = "presented"
		}
		when := ""
		if !e.Now.IsZero() && !e.Last.At.IsZero() {
			when = " " + Ago(e.Now.Sub(e.Last.At))
		}
		return fmt.Sprintf("token %d of %s is stale: %d was %s%s. Stop writing; take the lock again.", e.Token, e.Scope, e.Mark.Token, verb, when)
	case Missing:
		if e.Guard != nil && e.Guard.Issuer == External {
			return fmt.Sprintf("%s is guarded: a write needs a fencing token. Take the lock where the scope's tokens come from, and send its token as X-Fencing-Token with X-Fencing-Scope: %s", e.Scope, e.Scope)
		}
		// Most programs cannot send a header of their own.
		return fmt.Sprintf("%s is guarded: a write needs a fencing token. Run the program under the lock (s3fence lock run %s -- PROGRAM), or send a token that you were granted as X-Fencing-Token.", e.Scope, e.Scope)
	case NotTaken:
		return fmt.Sprintf("the guard of %s takes no tokens (tokens: none); send the request without one", e.Scope)
	case NeverGranted:
		return fmt.Sprintf("token %d of %s was never granted (the highest is %d). Use the token that the lock service printed for this scope.", e.Token, e.Scope, e.Mark.Token)
	case Unnamed:
		return fmt.Sprintf("the tokens of %s come from an external issuer, so the request must name their scope: X-Fencing-Scope: %s", e.Scope, e.Scope)
	case MayNotRaise:
		return fmt.Sprintf("token %d is above the mark %d of %s, and this credential may not write there, so it cannot raise the mark", e.Token, e.Mark.Token, e.Scope)
	case TooFar:
		return fmt.Sprintf("token %d is more than max_jump %d above the mark %d of %s. If the issuer's numbers really leapt, raise the mark by hand: s3fence scope raise %s --to N", e.Token, e.Guard.MaxJump, e.Mark.Token, e.Scope, e.Scope)
	case OtherGeneration:
		return fmt.Sprintf("%s was reset and is in generation %d: name it with the token (X-Fencing-Scope: %s?generation=%d)", e.Scope, e.Mark.Current(), e.Scope, e.Mark.Current())
	case NotActive:
		state := Pending
		if e.Guard != nil {
			state = e.Guard.State
		}
		return fmt.Sprintf("the guard of %s is %s; writes go on when that is done", e.Scope, state)
	}
	return fmt.Sprintf("refused in %s", e.Scope)
}

// Since is how long before the verdict the mark was granted or raised; zero where
// that is not known. The token has been stale for so long at least.
func (e *Refusal) Since() time.Duration {
	if e.Now.IsZero() || e.Last.At.IsZero() {
		return 0
	}
	return max(0, e.Now.Sub(e.Last.At))
}
