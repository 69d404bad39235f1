package events_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
)

func TestLog(t *testing.T) {
	t.Parallel()
	scope, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	for _, tc := range []struct {
		name  string
		event events.Event
		want  []string
		not   []string
	}{
		{"refusal", events.Event{Kind: events.Refused, Scope: scope, Key: "jobs/a", Token: 33, Highest: 34, Code: "StaleFencingToken"},
			[]string{"level=WARN", "msg=refused", "scope=s3://data/jobs/", "key=jobs/a", "token=33", "highest=34", "code=StaleFencingToken"},
			[]string{"owner=", "reason=", "at="}},
		{"grant", events.Event{Kind: events.Granted, Scope: scope, Token: 34, Owner: "ann@host", Time: time.Unix(0, 0).UTC()},
			[]string{"level=INFO", "msg=grant", "owner=ann@host", "at=1970"}, []string{"highest="}},
		{"alarm", events.Event{Kind: events.Alarm, Reason: "mark fell"}, []string{"level=ERROR", `reason="mark fell"`}, nil},
		{"renewals are quiet", events.Event{Kind: events.Renewed, Scope: scope}, nil, []string{"renew"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			events.Log(slog.New(slog.NewTextHandler(&b, nil))).Observe(t.Context(), tc.event)
			for _, w := range tc.want {
				assert.Contains(t, b.String(), w)
			}
			for _, w := range tc.not {
				assert.NotContains(t, b.String(), w)
			}
		})
	}
}

// Whoever adds a kind adds it to the list, by which queries are checked.
func TestKindsAreListed(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	require.NoError(t, err)
	var declared []events.Kind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Kind" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			declared = append(declared, events.Kind(text))
		}
		return true
	})
	assert.Equal(t, declared, events.Kinds())
}

// What an event does not say of its caller, the context does; never of another.
func TestCaller(t *testing.T) {
	t.Parallel()
	ctx := events.WithCaller(t.Context(), events.Caller{AccessKey: "ann", RequestID: "R", Remote: "192.0.2.7"})
	for _, tc := range []struct{ event, want events.Event }{
		{events.Event{}, events.Event{AccessKey: "ann", RequestID: "R", Remote: "192.0.2.7"}},
		{events.Event{AccessKey: "ann", RequestID: "own"}, events.Event{AccessKey: "ann", RequestID: "own", Remote: "192.0.2.7"}},
		{events.Event{AccessKey: "bob"}, events.Event{AccessKey: "bob"}},
	} {
		tc.event.From(ctx)
		assert.Equal(t, tc.want, tc.event)
	}
	var e events.Event
	e.From(t.Context())
	assert.Zero(t, e)
}

func TestFan(t *testing.T) {
	t.Parallel()
	var got []string
	tell := func(name string) events.Observer {
		return events.Func(func(_ context.Context, e events.Event) { got = append(got, name+string(e.Kind)) })
	}
	events.Fan(tell("a:"), events.Discard, tell("b:")).Observe(t.Context(), events.Event{Kind: events.Raised})
	assert.Equal(t, []string{"a:raise", "b:raise"}, got)
}
