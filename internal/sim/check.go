package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/history"
	"github.com/s3fence/s3fence/internal/state"
)

// checkMarks holds after each transaction that no mark has fallen or gone (F1).
func (c *cluster) checkMarks() {
	rows, _, err := c.db.mem.ListScopes(context.Background(), "", "", 100)
	if err != nil {
		return
	}
	now := map[fence.Scope]fence.Mark{}
	for _, r := range rows {
		now[r.Scope] = r.Mark
	}
	c.mu.Lock()
	before := c.marks
	c.marks = now
	c.mu.Unlock()
	for sc, m := range before {
		if n, ok := now[sc]; !ok || n.Below(m) {
			c.fault(checkMarks, "the mark of %s was %v and is %v (F1)", sc, m, n)
		}
	}
}

// checkDeleted holds that nothing is deleted that a row points at (F6).
func (c *cluster) checkDeleted(key string) {
	id, err := uuid.Parse(key[strings.LastIndexByte(key, '/')+1:])
	if err != nil {
		return
	}
	v, err := c.db.mem.Read(context.Background(), state.Query{Attempts: []uuid.UUID{id}})
	if err == nil && v.Referenced[id] {
		c.fault(checkBytes, "%s was deleted, and a row points at it (F6)", c.store.labels[key])
	}
}

// checkLive holds that each proxy serves again: a grant, a put, a get.
func (c *cluster) checkLive() {
	cl := c.clients[0]
	for i := range c.machines {
		for _, sc := range []int{0, 1} {
			name := fmt.Sprintf("live p%d %d", i, sc)
			o := Order{Do: Take, Scope: sc, Proxy: i, Key: 2, Tries: 1, Fenced: true}
			before, _ := cl.hand.at(sc)
			cl.lock(o, name)
			now, _ := cl.hand.at(sc)
			if now.token == before.token {
				c.fault(checkLiveness, "p%d grants nothing though nothing is wrong any more", i)
				continue
			}
			o.Do = Put
			cl.write(o, name+" put", now)
			if o.Do = Get; !cl.look(o, name+" get", now) {
				c.fault(checkLiveness, "p%d shows nothing though nothing is wrong any more", i)
			}
		}
	}
	// What stands in the end is part of the history, whoever shows it.
	for i := range c.machines {
		for sc := range scopes {
			for key := range keysOfAScope {
				if i > 0 {
					break // lists show it, too
				}
				o := Order{Do: Get, Scope: sc, Proxy: i, Key: key, Tries: 1}
				if !cl.look(o, fmt.Sprintf("end p%d %d %d", i, sc, key), held{}) {
					c.fault(checkLiveness, "p%d does not show key %d of %s though nothing is wrong any more", i, key, scopes[sc])
				}
			}
			cl.look(Order{Do: List, Scope: sc, Proxy: i, Tries: 1}, fmt.Sprintf("end p%d %d list", i, sc), held{})
		}
	}
}

// checkRest holds that rows have their bytes (F6), and that everything else goes once
// the collector has had its time.
func (c *cluster) checkRest() {
	c.checkRows()
	// A clock of the database that was set on and back makes an epoch last as much
	// longer.
	for range 300 {
		time.Sleep(2 * longestUpload)
		if len(c.left()) == 0 {
			break
		}
	}
	c.checkRows()
	for _, what := range c.left() {
		c.fault(checkGarbage, "%s are left in the store for ever", what)
	}
}

func (c *cluster) rows() map[string]state.Object {
	rows := map[string]state.Object{}
	list, err := c.db.mem.ListObjects(context.Background(), state.Range{Bucket: bucket}, 1000)
	if err != nil {
		panic(err) // the state in memory is not closed
	}
	for _, o := range list {
		rows[bucket+"/"+o.Physical] = o
	}
	return rows
}

func (c *cluster) checkRows() {
	rows := c.rows()
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		o := rows[key]
		switch b := c.store.at(key); {
		case b == nil:
			c.fault(checkBytes, "%s points at bytes that the store does not have (F6)", o.Ref)
		case int64(len(b.body)) != o.Size || b.etag != o.ETag && !strings.Contains(b.etag, "-"):
			c.fault(checkBytes, "%s points at %d bytes of ETag %s and the store has %d of %s (F6)", o.Ref, o.Size, o.ETag, len(b.body), b.etag)
		}
	}
}

// left is what is in the store that nothing refers to.
func (c *cluster) left() []string {
	rows := c.rows()
	ups, err := c.db.mem.ListUploads(context.Background(), state.Range{Bucket: bucket}, "", 1000)
	if err != nil {
		panic(err) // as above
	}
	open := map[string]bool{}
	for _, u := range ups {
		open[u.Upstream] = true
	}
	var left []string
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(c.store.blobs)) {
		if _, needed := rows[key]; !needed && c.store.at(key) != nil && strings.Contains(key, "/.s3fence/") {
			left = append(left, "bytes of "+c.store.labels[key])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.store.uploads)) {
		if !open[id] {
			left = append(left, "parts of "+c.store.labels[c.store.uploads[id].key])
		}
	}
	slices.Sort(left)
	return left
}

// judge has the histories judged.
func (c *cluster) judge() {
	by := map[string][]history.Op{}
	for _, o := range c.history.Ops() {
		by[o.Scope] = append(by[o.Scope], o)
	}
	for _, sc := range scopes {
		if err := history.Judge(by[sc.String()], history.Options{Issuer: sc.issuer}); err != nil {
			c.fault(checkHistory, "%v", err)
		}
	}
}
