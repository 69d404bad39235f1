package demo

import (
	"fmt"
	"strings"
)

// prologue says what is about to happen.
func (d *director) prologue() {
	ann, bob := d.workers[cast[0].name], d.workers[cast[1].name]
	d.stage.say(strong, "s3fence demo: a lock holder that freezes")
	d.stage.put("")
	d.stage.say(plain, fmt.Sprintf("Two processes, ann (pid %d) and bob (pid %d), each add a line to one object, an index of backups: read it, add, write it back. A lock makes them take turns. Its lease of %v frees it when a holder dies.", ann.pid, bob.pid, d.options.TTL))
	d.stage.put("")
	d.stage.say(plain, "ann does not die. She freezes, as processes do in a garbage collection or on a suspended machine: after she saw that the lock is hers, just before she writes.")
}

// announce opens an act.
func (d *director) announce(i int, a act, is []string) {
	l := d.stage.look
	d.stage.put("", "", l.paint(strong, fmt.Sprintf("Act %d: %s", i+1, a.title)))
	for _, line := range is {
		// What comes from others may be long.
		for j, part := range wrap(line, l.width()-4) {
			d.stage.put(strings.Repeat(" ", 2+2*min(j, 1)) + l.paint(faint, part))
		}
	}
	d.stage.put("", l.lanes("", [2]style{strong, strong}, [2]string{cast[0].name, cast[1].name}))
}

// conclude tells how an act ended.
func (d *director) conclude(p *play, v verdict) {
	l := d.stage.look
	st, word := v.word()
	d.stage.put("")
	d.stage.say(plain, "In the store now: "+lineList(v.final))
	var text string
	switch {
	case v.corrupt():
		text = "%s's line, %s, was answered 200 and is gone. The late write brought back what its writer had read before the freeze. No check before a write would have helped: the freeze can come after it."
		text = fmt.Sprintf(text, strings.Join(v.by, ", "), lineList(v.gone))
	case len(v.refusals) > 0:
		text = "ann's late write was refused, bob's line stands. She took the lock again, read what bob had written, and added hers."
	default:
		text = "All that was answered 200 is there."
	}
	for i, line := range wrap(word+": "+text, l.width()) {
		if i == 0 {
			line = l.paint(st, word) + strings.TrimPrefix(line, word)
		}
		d.stage.put(line)
	}
}

// epilogue draws what happened, and says what to do next.
func (d *director) epilogue(plays []*play) {
	l := d.stage.look
	d.stage.put("", "", l.paint(strong, "What happened, to scale"))
	end := plays[0].length
	for _, p := range plays {
		end = max(end, p.length)
	}
	for i, p := range plays {
		st, word := p.judge().word()
		d.stage.put("", fmt.Sprintf("Act %d: %s: %s", i+1, p.title, l.paint(st, word)))
		d.stage.put(drawTimeline(l, p.timeline(), end)...)
	}
	d.stage.put("")
	d.stage.put(legend(l)...)
	if len(d.options.Next) > 0 {
		d.stage.put("", "")
		d.stage.put(d.options.Next...)
	}
}
