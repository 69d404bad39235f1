package sealed

import (
	"context"
	"fmt"
	"strings"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// partID tells apart what was sent under one number.
type partID struct {
	number int
	etag   string
}

func partOf(number int, etag string) partID { return partID{number, strings.ToLower(etag)} }

// recorded finds what was recorded of the listed parts, in order of their numbers.
func (s *Store) recorded(ctx context.Context, up *state.Upload, list []guarded.PartInfo) (map[partID]state.UploadPart, error) {
	found := make(map[partID]state.UploadPart, len(list))
	if len(list) == 0 {
		return found, nil
	}
	names := make([]state.PartName, len(list))
	for i, p := range list {
		names[i] = state.PartName{Number: p.Number, ETag: p.ETag}
	}
	rows, err := s.state.UploadParts(ctx, up.ID, names)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		found[partOf(r.Number, r.ETag)] = r
	}
	return found, nil
}

// layOut lays the listed parts out one behind the other; ok is false, and there
// are none, where one of them was not recorded.
func layOut(list []guarded.PartInfo, recorded map[partID]state.UploadPart) (parts []object.Part, ok bool) {
	parts = make([]object.Part, len(list))
	var at int64
	for i, p := range list {
		row, ok := recorded[partOf(p.Number, p.ETag)]
		if !ok {
			return nil, false
		}
		parts[i] = object.Part{Number: p.Number, Start: at, Size: row.Size}
		at += row.Size
	}
	return parts, true
}

// checkParts refuses a list that says of a part what it is not. Of parts that an
// older version took nothing was recorded; it verified their checksums and let the
// list say what it would.
func checkParts(list []guarded.PartInfo, recorded map[partID]state.UploadPart) error {
	for _, p := range list {
		row, ok := recorded[partOf(p.Number, p.ETag)]
		for algorithm, said := range p.Checksums {
			if ok && (row.Algorithm != algorithm || row.Checksum != said) {
				return fmt.Errorf("%w: the %s of part %d", object.ErrInvalidPart, algorithm, p.Number)
			}
		}
	}
	return nil
}

// whole works out the checksum of the object that an upload's parts make, and
// refuses what the client says of it and is not true. It returns the parts with
// their checksums, where they count towards that of the whole.
func whole(up *state.Upload, c *guarded.Complete, parts []object.Part, recorded map[partID]state.UploadPart, size int64) (sums map[string]string, kind string, _ []object.Part, err error) {
	algorithm, kind := up.Algorithm, up.ChecksumType
	if algorithm == "" {
		// What all parts came with may be asked for at the end, too.
		for algorithm = range c.Checksums {
			if kind = c.ChecksumType; kind == "" {
				kind = checksum.DefaultType(algorithm)
			}
		}
	}
	summed := make([]object.Part, len(parts))
	for i, p := range parts {
		if row := recorded[partOf(p.Number, c.Parts[i].ETag)]; row.Algorithm == algorithm {
			p.Checksum = row.Checksum
		}
		summed[i] = p
	}
	sum, ok := checksum.Of(algorithm, kind, summed)
	if ok {
		sums, parts = map[string]string{algorithm: sum}, summed
	} else {
		kind = ""
	}
	return sums, kind, parts, isWhole(c, size, sums, kind)
}

// isWhole holds what a Complete says of the whole object against what it is.
func isWhole(c *guarded.Complete, size int64, sums map[string]string, kind string) error {
	if c.Size != nil && *c.Size != size {
		return fmt.Errorf("%w: %d, computed %d", object.ErrObjectSize, *c.Size, size)
	}
	if c.ChecksumType != "" && c.ChecksumType != kind {
		return typeMismatch(kind, c.ChecksumType)
	}
	for algorithm, said := range c.Checksums {
		sum, ok := sums[algorithm]
		if !ok {
			has := ""
			for has = range sums {
			}
			return typeMismatch(has, algorithm)
		}
		if !checksum.Same(sum, said, len(c.Parts)) {
			return fmt.Errorf("%w (%s)", object.ErrBadDigest, algorithm)
		}
	}
	return nil
}

// Parts reads parts of an object; see [guarded.Reader]. They are found by the
// attempt that the row names, so they are never another object's.
func (s *Store) Parts(ctx context.Context, op guarded.Op, ref object.Ref, skip, limit int) (object.Info, []object.Part, error) {
	var before *state.Object
	for range 4 {
		o, err := s.resolve(ctx, &op, ref)
		if err != nil {
			return object.Info{}, nil, err
		}
		if o.Parts <= skip {
			return o.Info, nil, nil
		}
		parts, err := s.state.ObjectParts(ctx, o.Attempt, skip, limit)
		if err != nil || len(parts) > 0 {
			return o.Info, parts, err
		}
		if before != nil && before.Attempt == o.Attempt {
			return o.Info, nil, nil // none were recorded
		}
		before = o // or it was replaced since the row was read
	}
	return object.Info{}, nil, fmt.Errorf("%w: %s is replaced faster than it can be read", state.ErrBusy, ref)
}

// part finds the n-th part of an object.
func (s *Store) part(ctx context.Context, o *state.Object, n int) (object.Part, error) {
	parts, err := s.state.ObjectParts(ctx, o.Attempt, n-1, 1)
	switch {
	case err != nil:
		return object.Part{}, err
	case len(parts) == 0:
		return object.Part{}, guarded.ErrPartsUnknown
	}
	return parts[0], nil
}
