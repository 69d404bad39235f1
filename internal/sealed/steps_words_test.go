//go:build !pausepoints && !race

package sealed

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// text puts rows into words.
func (sc *scene) text(t *testing.T, p *proxy, v *state.View) string {
	t.Helper()
	var b strings.Builder
	for _, s := range []fence.Scope{sc.scope, sc.external} {
		row := v.Scopes[s]
		fmt.Fprintf(&b, "%s mark %d/%s epoch %d horizon %d holder %s/%s held %v ttl %v\n", s.Bucket(), row.Mark.Generation, sc.token(s, row.Mark.Token),
			row.Epoch, row.Horizon, row.Last.Holder, row.Last.Owner, row.Held(v.Now), row.TTL)
	}
	for _, ref := range slices.SortedFunc(maps.Keys(v.Objects), func(x, y object.Ref) int { return cmp.Compare(x.String(), y.String()) }) {
		o := v.Objects[ref]
		require.NotEmpty(t, o.Physical)
		fmt.Fprintf(&b, "%s %s token %s etag %s tags %v parts %d\n", ref.Bucket, ref.Key[strings.LastIndexByte(ref.Key, '/')+1:], sc.token(o.Scope, o.Token), o.ETag, o.Tags, o.Parts)
	}
	if sc.upload.ID != "" {
		up := v.Uploads[sc.upload.ID]
		kept, err := p.st.UploadParts(t.Context(), sc.upload.ID, []state.PartName{{Number: 1, ETag: sc.part.ETag}, {Number: 2, ETag: md5Hex("part")}})
		require.NoError(t, err)
		fmt.Fprintf(&b, "upload there %v completed %v parts %d\n", up != nil, up != nil && up.Completed, len(kept))
	}
	for _, c := range v.Claims {
		fmt.Fprintf(&b, "claimed by %s\n", c.Owner)
	}
	if sc.line {
		lines, err := p.st.ListPlaces(t.Context(), []fence.Scope{sc.scope}, 10, time.Hour)
		require.NoError(t, err)
		for _, place := range lines[sc.scope].First {
			fmt.Fprintf(&b, "place of %s\n", place.Ticket)
		}
	}
	if sc.collected {
		sc.garbage(t, p, &b)
	}
	return b.String()
}

// garbage puts the collector's list into words and empties it. Nothing on it may be
// referred to (F6).
func (sc *scene) garbage(t *testing.T, p *proxy, b *strings.Builder) {
	t.Helper()
	list, err := p.st.ListGarbage(t.Context(), sc.scope.Bucket(), time.Now().Add(time.Hour), 100)
	require.NoError(t, err)
	if len(list) == 0 {
		return
	}
	q := state.Query{}
	for _, g := range list {
		id, ok := attemptOf(g.Physical)
		require.True(t, ok)
		q.Attempts = append(q.Attempts, id)
		fmt.Fprintf(b, "garbage %v\n", map[bool]string{true: "a", false: "another"}[id == sc.a.Attempt])
	}
	v, err := p.st.Read(t.Context(), q)
	require.NoError(t, err)
	require.Empty(t, v.Referenced, "the collector's list has what a row refers to (F6)")
	require.NoError(t, state.Run(t.Context(), p.st, &state.Tx{Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{DropGarbage: list}, nil
	}}))
}

// token writes a token, those of the counter so that relative finds them.
func (sc *scene) token(s fence.Scope, t fence.Token) string {
	if s == sc.external {
		return fmt.Sprint(t)
	}
	return drawn(t)
}

func drawn(t fence.Token) string { return fmt.Sprintf("<%d>", t) }

var drawnTokens = regexp.MustCompile(`<[1-9]\d*>`)

// relative replaces tokens of the counter by their order: another run draws others.
func relative(o pgtest.Outcome) pgtest.Outcome {
	all := map[string]bool{}
	for _, s := range []string{o.A, o.B, o.Rows} {
		for _, tok := range drawnTokens.FindAllString(s, -1) {
			all[tok] = true
		}
	}
	list := slices.SortedFunc(maps.Keys(all), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
	order := func(s string) string {
		return drawnTokens.ReplaceAllStringFunc(s, func(tok string) string {
			return "t" + strconv.Itoa(slices.Index(list, tok))
		})
	}
	return pgtest.Outcome{A: order(o.A), B: order(o.B), Rows: order(o.Rows)}
}

// notNow is how an action answers that the store could not do just now: nothing happened.
const notNow = "not now"

var figures = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|[0-9]+(\.[0-9]+)?`)

// said puts an answer into words: of a refusal which one, of other errors their text
// without numbers and times.
func said(err error) string {
	var refusal *fence.Refusal
	var held *locks.HeldError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &held):
		return "held by " + held.By.Owner
	case errors.Is(err, guarded.ErrStore):
		return notNow
	case errors.As(err, &refusal):
		mark := drawn(refusal.Mark.Token)
		if refusal.Scope.Bucket() == "external" {
			mark = fmt.Sprint(refusal.Mark.Token)
		}
		return fmt.Sprintf("refused, verdict %d, mark %d/%s", refusal.Verdict, refusal.Mark.Generation, mark)
	}
	text, _, _ := strings.Cut(figures.ReplaceAllString(err.Error(), "#"), "granted")
	return text
}
