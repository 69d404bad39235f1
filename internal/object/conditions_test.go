package object

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var modified = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

func TestCheckWrite(t *testing.T) { // F10, and S3's split of 404, 409, 412
	t.Parallel()
	old := &Info{ETag: "abc", Size: 3, Modified: modified}
	three, four := int64(3), int64(4)
	for _, tc := range []struct {
		name string
		c    Conditions
		old  *Info
		want error
	}{
		{"no condition", Conditions{}, old, nil},
		{"if-none-match, absent", Conditions{IfNoneMatch: "*"}, nil, nil},
		{"if-none-match, there", Conditions{IfNoneMatch: "*"}, old, ErrPreconditionFailed},
		{"if-match quoted", Conditions{IfMatch: `"abc"`}, old, nil},
		{"if-match bare", Conditions{IfMatch: "abc"}, old, nil},
		{"if-match weak", Conditions{IfMatch: `W/"abc"`}, old, nil},
		{"if-match in a list", Conditions{IfMatch: `"x", "abc"`}, old, nil},
		{"if-match any", Conditions{IfMatch: "*"}, old, nil},
		{"if-match other", Conditions{IfMatch: `"abd"`}, old, ErrPreconditionFailed},
		{"if-match, absent", Conditions{IfMatch: `"abc"`}, nil, ErrNoSuchKey},
		{"if-match any, absent", Conditions{IfMatch: "*"}, nil, ErrNoSuchKey},
		{"size", Conditions{IfSize: &three}, old, nil},
		{"other size", Conditions{IfSize: &four}, old, ErrPreconditionFailed},
		{"date in whole seconds", Conditions{IfLastModified: modified.Truncate(time.Second)}, old, nil},
		{"other date", Conditions{IfLastModified: modified.Add(-time.Second)}, old, ErrPreconditionFailed},
	} {
		assert.ErrorIs(t, tc.c.CheckWrite(tc.old), tc.want, tc.name)
	}
	require.Error(t, Conditions{IfNoneMatch: `"abc"`}.CheckWritable())
	require.Error(t, Conditions{IfNoneMatch: "*", IfMatch: "a"}.CheckWritable())
	require.NoError(t, Conditions{IfNoneMatch: "*"}.CheckWritable())
	assert.True(t, Conditions{IfSize: &three}.Any())
	assert.False(t, Conditions{}.Any())
}

func TestCheckRead(t *testing.T) { // RFC 9110 section 13.2.2
	t.Parallel()
	obj := &Info{ETag: "abc", Modified: modified}
	before, same, later := modified.Add(-time.Hour), modified.Truncate(time.Second), modified.Add(time.Hour)
	for _, tc := range []struct {
		name string
		c    Conditions
		want error
	}{
		{"none", Conditions{}, nil},
		{"match", Conditions{IfMatch: "abc"}, nil},
		{"no match", Conditions{IfMatch: "x"}, ErrPreconditionFailed},
		{"unmodified since", Conditions{IfUnmodifiedSince: same}, nil},
		{"modified since then", Conditions{IfUnmodifiedSince: before}, ErrPreconditionFailed},
		{"a match outranks the date", Conditions{IfMatch: "abc", IfUnmodifiedSince: before}, nil},
		{"none match", Conditions{IfNoneMatch: "x"}, nil},
		{"not modified by tag", Conditions{IfNoneMatch: "abc"}, ErrNotModified},
		{"modified since", Conditions{IfModifiedSince: before}, nil},
		{"not modified by date", Conditions{IfModifiedSince: same}, ErrNotModified},
		{"a tag outranks the date", Conditions{IfNoneMatch: "x", IfModifiedSince: later}, nil},
	} {
		assert.ErrorIs(t, tc.c.CheckRead(obj), tc.want, tc.name)
	}
}
