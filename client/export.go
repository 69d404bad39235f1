package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// silence is how long an export may say nothing before it is taken for dead.
const silence = time.Minute

// Export says which guard's objects are written back under their plain keys.
type Export struct {
	// Pattern is the guard's.
	Pattern string `json:"pattern"`
	// RemoveGuard takes the guard out of force at the end, and deletes plain keys of
	// no object.
	RemoveGuard bool `json:"remove_guard,omitempty"`
	// AcceptLoss goes on where the store does not keep all attributes of an object.
	AcceptLoss bool `json:"accept_loss,omitempty"`
}

// ExportProgress is where an export stands: Done of Of keys in a Step.
type ExportProgress struct {
	Step string `json:"step"`
	Done int    `json:"done"`
	Of   int    `json:"of"`
}

// Difference is how a plain object is not what it was in its scope.
type Difference struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

// Exported is what an export did.
type Exported struct {
	Pattern string `json:"pattern"`
	// Objects are all under the guard, Bytes their size.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Copied and Deleted plain keys were changed, Late of them while writers waited,
	// which took ClosedMS milliseconds. Leftover plain keys belong to no object and
	// were left.
	Copied   int   `json:"copied"`
	Deleted  int   `json:"deleted"`
	Leftover int   `json:"leftover"`
	Late     int   `json:"late"`
	ClosedMS int64 `json:"closed_ms"`
	// RetaggedObjects have another ETag, LostObjects lack attributes that the store
	// does not keep; up to 100 of each are named.
	RetaggedObjects int          `json:"retagged_objects"`
	LostObjects     int          `json:"lost_objects"`
	Retagged        []Difference `json:"retagged,omitempty"`
	Lost            []Difference `json:"lost,omitempty"`
	// Removed says that the guard is gone.
	Removed bool `json:"removed"`
}

// Export writes the objects of a guard back under their plain keys; that needs the
// right admin. It takes as long as the store needs to copy them. progress, where not
// nil, is told about once a second. An export that is cut off changes nothing that
// anybody sees and can be repeated; where it was cut off while writers waited, they
// wait until it is, or until the guard is added again.
func (c *Client) Export(ctx context.Context, e Export, progress func(ExportProgress)) (Exported, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer dead.Stop()
	resp, err := c.send(ctx, http.MethodPost, "guards/export", e)
	if err != nil {
		return Exported{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return Exported{}, fmt.Errorf("%w: %s: reading the answer: %w", ErrUnreachable, c.base, err)
		}
		return Exported{}, c.failure(resp.StatusCode, answer)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var line struct {
			Progress *ExportProgress
			Result   *Exported
			Error    json.RawMessage
			Status   int
		}
		if err := lines.Decode(&line); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return Exported{}, fmt.Errorf("%w: %s: the export was cut off: %w", ErrUnreachable, c.base, err)
		}
		dead.Reset(silence)
		switch {
		case line.Result != nil:
			return *line.Result, nil
		case line.Error != nil:
			return Exported{}, c.failure(line.Status, line.Error)
		case line.Progress != nil && progress != nil:
			progress(*line.Progress)
		}
	}
}

var errSilent = errors.New("nothing was heard for a minute")
