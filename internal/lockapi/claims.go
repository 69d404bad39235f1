package lockapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/state"
)

// scheme begins the names of jobs that belong to a place.
const scheme = "s3://"

// mayJob asks for one of some rights on a job. A name that begins with s3:// belongs
// to that place, and the right is asked for on all keys that begin like it. Every
// other name belongs to everybody who has the right on anything.
func (c *call) mayJob(job string, rights ...auth.Right) error {
	place, named := strings.CutPrefix(job, scheme)
	bucket, prefix, _ := strings.Cut(place, "/")
	if named && bucket == "" {
		return fmt.Errorf("%w: the job %q names no bucket; write it like s3://bucket/prefix/name, or without s3://", errBadRequest, clip(job))
	}
	for _, r := range rights {
		if named && c.principal.MayUnder(r, bucket, prefix) || !named && c.principal.MayAnywhere(r) {
			return nil
		}
	}
	where := "anything"
	if named {
		where = clip(job)
	}
	return fmt.Errorf("%w: the access key %s does not have the right %s on %s", errDenied, c.principal.AccessKey, rights[0], where)
}

type claimJSON struct {
	Job       string    `json:"job"`
	Slot      string    `json:"slot"`
	Holder    string    `json:"holder"`
	Owner     string    `json:"owner"`
	ClaimedAt time.Time `json:"claimed_at"`
}

func claimOf(c state.Claim) claimJSON {
	return claimJSON{c.Job, c.Name, c.Holder, c.Owner, c.At.UTC()}
}

func claimFields(c state.Claim) map[string]any {
	return map[string]any{"job": c.Job, "slot": c.Name, "holder": c.Holder, "owner": c.Owner, "claimed_at": c.At.UTC()}
}

func (s *server) claim(c *call) (int, any, error) {
	var b struct {
		Job   string `json:"job"`
		Slot  string `json:"slot"`
		Owner string `json:"owner"`
	}
	if err := decode(c.body, &b); err != nil {
		return 0, nil, err
	}
	if err := c.mayJob(b.Job, auth.Lock); err != nil {
		return 0, nil, err
	}
	claim, err := s.Locks.Claim(c.Context(), locks.ClaimRequest{Job: b.Job, Slot: b.Slot, Holder: c.principal.AccessKey, Owner: b.Owner, Retry: c.named()})
	return http.StatusCreated, claimOf(claim), err
}

func (s *server) claims(c *call) (int, any, error) {
	q := c.URL.Query()
	job := q.Get("job")
	if err := c.mayJob(job, eachRight...); err != nil {
		return 0, nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return 0, nil, err
	}
	page, more, err := s.Locks.Claims(c.Context(), job, q.Get("after"), limit)
	if err != nil {
		return 0, nil, err
	}
	list := make([]claimJSON, 0, len(page))
	for _, claim := range page {
		list = append(list, claimOf(claim))
	}
	out := map[string]any{"claims": list}
	if more {
		out["next"] = list[len(list)-1].Slot
	}
	return http.StatusOK, out, nil
}
