package demo

import (
	"fmt"
	"net/http"
)

// stale is the code of the fence's refusal.
const stale = "StaleFencingToken"

// verdict is how an act ended, from what was answered and what is in the store.
type verdict struct {
	// final is what the store holds.
	final []string
	// gone are lines whose write was answered with success and that are not there
	// although nobody deleted them; by are those who wrote them.
	gone, by []string
	// refusals are the answers to ann's writes that the fence refused.
	refusals []event
}

// judge looks at an act that was played. Lines are only ever added, so whatever
// was acknowledged must be there.
func (p *play) judge() verdict {
	v := verdict{final: p.views[len(p.views)-1].lines}
	for _, e := range p.events {
		switch {
		case e.Step == written:
			own := e.Lines[len(e.Lines)-1:]
			if len(missing(own, v.final)) > 0 {
				v.gone, v.by = append(v.gone, own...), append(v.by, e.who)
			}
		case e.who == cast[0].name && e.Step == refused && e.Status == http.StatusPreconditionFailed && e.Code == stale:
			v.refusals = append(v.refusals, e)
		}
	}
	return v
}

// corrupt says that something acknowledged is gone.
func (v verdict) corrupt() bool { return len(v.gone) > 0 }

// word is the verdict in a word.
func (v verdict) word() (style, string) {
	if v.corrupt() {
		return bad, "CORRUPT"
	}
	return good, "INTACT"
}

// check compares a verdict with how the act should end.
func (a act) check(v verdict) error {
	switch {
	case !a.fenced && !v.corrupt():
		return fmt.Errorf("%w: without a fence the late write should have done harm, and the index holds %s", ErrUnexpected, lineList(v.final))
	case a.fenced && v.corrupt():
		return fmt.Errorf("%w: behind the fence %s is gone, and was acknowledged; the index holds %s. This is a bug of s3fence, please report it", ErrUnexpected, lineList(v.gone), lineList(v.final))
	case a.fenced && len(v.refusals) != 1:
		return fmt.Errorf("%w: the late write should have been refused once with 412 %s, and was %d times", ErrUnexpected, stale, len(v.refusals))
	case a.fenced && len(missing([]string{annAdds, bobAdds}, v.final)) > 0:
		return fmt.Errorf("%w: in the end the index should hold what both have added, and holds %s", ErrUnexpected, lineList(v.final))
	}
	return nil
}
