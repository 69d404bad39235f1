package objectstore

import (
	"context"
	"fmt"
)

// Fill puts n empty objects under 100 prefixes in one commit.
func (s *Store) Fill(ctx context.Context, bucket string, n int) error {
	return s.commits.do(ctx, func(t *txn) error {
		id, err := t.bucket(bucket)
		if err != nil {
			return err
		}
		for i := range n {
			next := s.bodies.Add(1)
			if err := t.addBody(next, &body{}); err != nil {
				return err
			}
			key := fmt.Sprintf("p%03d/k%07d", i%100, i/100)
			if err := t.replace(id, []byte(key), nil, &object{body: next, inlined: true, etag: "e", modified: stamp(), head: []byte("{}")}); err != nil {
				return err
			}
		}
		return nil
	})
}
