package lockapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/lockapi"
)

// leaving is a guard service whose exports do what a test says.
type leaving struct {
	lockapi.Guards
	export func(ctx context.Context, o guards.ExportOptions) (guards.Exported, error)
}

func (l leaving) Export(ctx context.Context, _ fence.Pattern, o guards.ExportOptions) (guards.Exported, error) {
	return l.export(ctx, o)
}

// An export tells where it is for as long as it lasts; how it ended stands in the last
// line, since the status went before. What can be refused at once has a status.
func TestExportTellsItsProgress(t *testing.T) {
	t.Parallel()
	failed := fmt.Errorf("%w: no room", guards.ErrNotExported)
	for _, tc := range []struct {
		name string
		long bool
		err  error
		want error
	}{
		{"long", true, nil, nil},
		{"long, fails", true, failed, client.ErrConflict},
		{"short", false, nil, nil},
		{"refused", false, failed, client.ErrConflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			heard := make(chan struct{})
			w := newWorld(t, func(o *lockapi.Options) {
				o.Guards = leaving{o.Guards, func(ctx context.Context, x guards.ExportOptions) (guards.Exported, error) {
					assert.True(t, x.Remove)
					assert.True(t, x.AcceptLoss)
					if tc.long {
						x.Progress(guards.ExportProgress{Step: "copying", Done: 1, Of: 2})
						select {
						case <-heard:
						case <-ctx.Done():
						}
					}
					return guards.Exported{Pass: guards.Pass{Objects: 7, Lost: []guards.Difference{{Key: "k", What: "tags"}}}, Removed: true, Late: 3, Closed: 2 * time.Second}, tc.err
				}}
			})
			var told []client.ExportProgress
			got, err := w.as("root").Export(t.Context(), client.Export{Pattern: "s3://data/jobs/", RemoveGuard: true, AcceptLoss: true}, func(p client.ExportProgress) {
				if told = append(told, p); len(told) == 1 {
					close(heard)
				}
			})
			if tc.long {
				require.NotEmpty(t, told)
				assert.Equal(t, client.ExportProgress{Step: "copying", Done: 1, Of: 2}, told[0])
			}
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				require.ErrorContains(t, err, "no room")
				var e *client.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, "ObjectsNotExported", e.Code)
				assert.Equal(t, http.StatusConflict, e.Status)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, client.Exported{Pattern: "s3://data/jobs/", Objects: 7, LostObjects: 1, Lost: []client.Difference{{Key: "k", What: "tags"}}, Removed: true, Late: 3, ClosedMS: 2000}, got)
		})
	}
}

// Who hangs up ends the export.
func TestExportEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := newWorld(t, func(o *lockapi.Options) {
		o.Guards = leaving{o.Guards, func(ctx context.Context, x guards.ExportOptions) (guards.Exported, error) {
			x.Progress(guards.ExportProgress{Step: "copying"})
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return guards.Exported{}, ctx.Err()
		}}
	})
	ctx, hangUp := context.WithCancel(t.Context())
	_, err := w.as("root").Export(ctx, client.Export{Pattern: "s3://data/jobs/"}, func(client.ExportProgress) { hangUp() })
	require.Error(t, err)
	select {
	case err := <-ended:
		assert.True(t, errors.Is(err, context.Canceled))
	case <-time.After(time.Minute):
		t.Fatal("the export goes on")
	}
}
