package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// KeepPart records a part of an upload; see [state.State].
func (s *Store) KeepPart(ctx context.Context, p state.UploadPart) error {
	if err := s.enter(ctx, Writing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if u := s.uploads[p.Upload]; u == nil || u.Completed {
		return object.ErrNoSuchUpload
	}
	if s.parts[p.Upload] == nil {
		s.parts[p.Upload] = map[partName]state.UploadPart{}
	}
	s.parts[p.Upload][partName{p.Number, p.ETag}] = p
	return nil
}

// UploadParts returns recorded parts of an upload; see [state.State].
func (s *Store) UploadParts(ctx context.Context, upload string, names []state.PartName) ([]state.UploadPart, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	wanted := make(map[state.PartName]bool, len(names))
	for _, n := range names {
		wanted[state.PartName{Number: n.Number, ETag: strings.ToLower(n.ETag)}] = true
	}
	var list []state.UploadPart
	for _, p := range s.parts[upload] {
		if wanted[state.PartName{Number: p.Number, ETag: strings.ToLower(p.ETag)}] {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b state.UploadPart) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.ETag, b.ETag))
	})
	return list, nil
}

// ObjectParts returns parts of an object; see [state.State].
func (s *Store) ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) ([]object.Part, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	parts := s.made[attempt]
	return slices.Clone(first(parts[min(max(skip, 0), len(parts)):], limit)), nil
}
