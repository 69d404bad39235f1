package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// mistakeRounds is how often each form of a mistake is run, where no lease has to
// run out for it: what goes wrong must do so every time, and what is right never.
const mistakeRounds = "3"

// mistakes starts dev and copies the examples of mistakes.
func mistakes(t *testing.T) (*Proxy, *Examples) {
	t.Helper()
	p := NewDev(t, Options{}).Proxies[0]
	return p, p.Examples(t)
}

// Two workers that read before they lock lose an update, though each wrote under
// a good token; two that lock before they read lose none.
func TestMistakeCheckThenLock(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	examples.Run(t, "mistakes", "python3", "-m", "check_then_lock.wrong", mistakeRounds).Must(t)
	assert.Equal(t, "3", p.Get(t, "counter/n"), "three times two workers added 1, and one of the two was lost")
	examples.Run(t, "mistakes", "python3", "-m", "check_then_lock.right", mistakeRounds).Must(t)
	assert.Equal(t, "9", p.Get(t, "counter/n"), "three times two workers added 1")
}

// An acquisition fails in three ways, which the right form tells apart; to the
// wrong one a service that is down looks like a job that runs elsewhere.
func TestMistakeThreeFailures(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	for _, form := range []string{"wrong", "right"} {
		examples.Run(t, "mistakes", "./three_failures/"+form+".sh").Must(t)
		assert.Contains(t, p.Get(t, "report/today"), "made by", form)
	}
	p.Acquire(t, "s3://demo/report/", "ann@host")
	for range 3 {
		examples.Run(t, "mistakes", "./three_failures/right.sh").WantErr(t, 10, "is held by ann@host")
		examples.Run(t, "mistakes", "./three_failures/right.sh", "100ms").WantErr(t, 11, "is held by ann@host", "still held after 100ms")
		examples.Run(t, "mistakes", "./three_failures/wrong.sh").Must(t)
	}
	p.Stop()
	for range 3 {
		said := examples.Run(t, "mistakes", "./three_failures/wrong.sh").Must(t)
		assert.Contains(t, said, "made elsewhere", "nobody makes it, and nobody is told")
		examples.Run(t, "mistakes", "./three_failures/right.sh").WantErr(t, 12, "NOT made")
	}
}

// A job whose lock was taken again for it, under a new token, overwrites what
// another one wrote in between; one that keeps its token is refused and begins
// again.
func TestMistakeRenewalRace(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	examples.Run(t, "mistakes", "python3", "-m", "renewal_race.wrong", "2").Must(t)
	assert.Equal(t, "2", p.Get(t, "stock/n"), "twice two workers added 1, and one of the two was lost")
	said := examples.Run(t, "mistakes", "python3", "-m", "renewal_race.right", "2").Must(t)
	assert.Equal(t, 2, strings.Count(said, "is stale"), said)
	assert.Equal(t, "6", p.Get(t, "stock/n"), "twice two workers added 1")
}

// Who frees a lock by the scope's name frees somebody else's.
func TestMistakeReleasingAnothers(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	for range 2 {
		said := examples.Run(t, "mistakes", "./releasing_anothers/wrong.sh").Must(t)
		assert.Contains(t, said, "carol is let in while bob works")
		assert.Contains(t, said, "bob's work is lost")
		p.WantAbsent(t, "index/now")
	}
	for range 2 {
		said := examples.Run(t, "mistakes", "./releasing_anothers/right.sh").Must(t)
		assert.NotContains(t, said, "carol is let in")
		assert.Contains(t, said, "somebody else's by then: left alone")
		assert.Equal(t, "bob's work", p.Get(t, "index/now"))
	}
}

// A job longer than its lease runs beside the next one; one whose lease is renewed
// does not.
func TestMistakeLongerThanTTL(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	for range 2 {
		said := examples.Run(t, "mistakes", "./longer_than_ttl/wrong.sh").Must(t)
		assertOrder(t, said, "ann begins", "bob begins", "bob ends", "ann's list is refused", "ann ends")
		assert.Equal(t, "by bob", p.Get(t, "mails/sent"))
	}
	for range 2 {
		said := examples.Run(t, "mistakes", "./longer_than_ttl/right.sh").Must(t)
		assertOrder(t, said, "ann begins", "ann ends", "bob begins", "bob ends")
		assert.Equal(t, "by bob", p.Get(t, "mails/sent"))
	}
}

// assertOrder fails the test unless all of these stand in the text, in this order.
func assertOrder(t *testing.T, text string, all ...string) {
	t.Helper()
	at := 0
	for _, s := range all {
		i := strings.Index(text[at:], s)
		if i < 0 {
			t.Errorf("no %q, or not in this order (%q):\n%s", s, all, text)
			return
		}
		at += i
	}
}

// Three deliveries of one event at once are handled three times where each looks
// first, and once where they claim it.
func TestMistakeWebhookThreeTimes(t *testing.T) {
	t.Parallel()
	_, examples := mistakes(t)
	said := examples.Run(t, "mistakes", "python3", "-m", "webhook_three_times.wrong", mistakeRounds).Must(t)
	assert.Equal(t, 3, strings.Count(said, "charged 3 times"), said)
	said = examples.Run(t, "mistakes", "python3", "-m", "webhook_three_times.right", mistakeRounds).Must(t)
	assert.Equal(t, 3, strings.Count(said, "charged 1 times"), said)
}

// Two clicks make two orders where the server names them, and one where the form
// does; then both clicks are told of that one, and another form is told no.
func TestMistakeDoubleClick(t *testing.T) {
	t.Parallel()
	p, examples := mistakes(t)
	said := examples.Run(t, "mistakes", "python3", "-m", "double_click.wrong", mistakeRounds).Must(t)
	assert.Equal(t, 6, strings.Count(said, "ordered: "), said)
	assert.Len(t, keysBelow(t, p, "orders", ""), 6)
	said = examples.Run(t, "mistakes", "python3", "-m", "double_click.right", mistakeRounds).Must(t)
	assert.Equal(t, 6, strings.Count(said, "ordered: "), said)
	orders := keysBelow(t, p, "orders", "")
	assert.Len(t, orders, 9)

	_, last, _ := strings.Cut(strings.TrimSpace(said[strings.LastIndex(said, "ordered: "):]), "ordered: ")
	order, _, _ := strings.Cut(last, "\n")
	_, form, _ := strings.Cut(order, "/")
	p.Send(t, Request{Method: "PUT", Bucket: "orders", Key: order, Body: "two pizzas", Header: map[string]string{"If-None-Match": "*", "Idempotency-Key": form}}).Want(t, 422)
	assert.Equal(t, "one pizza", p.Send(t, Request{Method: "GET", Bucket: "orders", Key: order}).Want(t, 200).Body)
}
