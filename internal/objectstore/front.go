package objectstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/rclone/gofakes3"
)

// front is the backend of the gofakes3 front. It serves what the handler
// leaves to it: buckets, lists of objects, and tags.
type front struct{ s *Store }

var (
	_ gofakes3.Backend              = (*front)(nil)
	_ gofakes3.ObjectTaggingBackend = (*front)(nil)
)

// validateBucket applies S3's naming rules.
func validateBucket(name string) error {
	if err := gofakes3.ValidateBucketName(name); err != nil {
		return fail("InvalidBucketName", "bucket %q: %v", name, err)
	}
	return nil
}

func (f *front) ListBuckets(ctx context.Context) ([]gofakes3.BucketInfo, error) {
	rows, err := f.s.readDB.QueryContext(ctx, `SELECT name, created FROM buckets ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []gofakes3.BucketInfo
	for rows.Next() {
		var b gofakes3.BucketInfo
		var created int64
		if err := rows.Scan(&b.Name, &created); err != nil {
			return nil, err
		}
		b.CreationDate = gofakes3.NewContentTime(time.UnixMilli(created).UTC())
		list = append(list, b)
	}
	return list, rows.Err()
}

func (f *front) ListBucket(ctx context.Context, name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	var p gofakes3.Prefix
	if prefix != nil {
		p = *prefix
	}
	limit := int(page.MaxKeys)
	if limit <= 0 {
		limit = gofakes3.MaxBucketKeys
	}
	list, more, err := f.s.listObjects(ctx, name, []byte(p.Prefix), []byte(p.Delimiter), []byte(page.Marker), limit)
	if err != nil {
		return nil, forFront(err)
	}
	out := gofakes3.NewObjectList()
	for _, e := range list {
		if e.common {
			out.AddPrefix(string(e.key))
			continue
		}
		out.Add(&gofakes3.Content{
			Key:          string(e.key),
			LastModified: gofakes3.NewContentTime(e.modified),
			ETag:         quoted(e.etag),
			Size:         e.size,
			StorageClass: gofakes3.StorageStandard,
		})
	}
	if out.IsTruncated = more; more {
		out.NextMarker = string(list[len(list)-1].key)
	}
	return out, nil
}

func (f *front) BucketExists(ctx context.Context, name string) (bool, error) {
	_, err := f.s.bucketID(ctx, name)
	if isCode(err, "NoSuchBucket") {
		return false, nil
	}
	return err == nil, err
}

func (f *front) DeleteBucket(ctx context.Context, name string) error {
	return forFront(f.s.deleteBucket(ctx, name))
}

func (f *front) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	o, err := f.s.stat(ctx, bucket, []byte(key))
	if err != nil {
		return nil, forFront(err)
	}
	meta, err := decodeHead(o.head)
	if err != nil {
		return nil, err
	}
	return &gofakes3.Object{
		Name:     key,
		Size:     o.size,
		Metadata: map[string]string{gofakes3.TaggingMetadataKey: meta.Tags},
		Contents: io.NopCloser(eof{}),
	}, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// SetObjectTagging changes the tags only: bytes, ETag and Last-Modified stay.
func (f *front) SetObjectTagging(ctx context.Context, bucket, key, tagging string) error {
	return forFront(f.s.commits.do(ctx, func(t *txn) error {
		id, o, err := t.lookup(bucket, []byte(key))
		if err != nil {
			return err
		}
		if o == nil {
			return noSuchKey()
		}
		meta, err := decodeHead(o.head)
		if err != nil {
			return err
		}
		meta.Tags = tagging
		text, err := meta.encode()
		if err != nil {
			return err
		}
		return t.exec(`UPDATE objects SET head = ? WHERE bucket = ? AND key = ?`, text, id, []byte(key))
	}))
}

// The handler answers these operations before the front sees them. Reaching
// one would be a routing fault, and is refused.

func (f *front) CreateBucket(context.Context, string) error { return gofakes3.ErrNotImplemented }

func (f *front) GetObject(context.Context, string, string, *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (f *front) DeleteObject(context.Context, string, string) (gofakes3.ObjectDeleteResult, error) {
	return gofakes3.ObjectDeleteResult{}, gofakes3.ErrNotImplemented
}

func (f *front) PutObject(context.Context, string, string, map[string]string, io.Reader, int64) (gofakes3.PutObjectResult, error) {
	return gofakes3.PutObjectResult{}, gofakes3.ErrNotImplemented
}

func (f *front) DeleteMulti(context.Context, string, ...string) (gofakes3.MultiDeleteResult, error) {
	return gofakes3.MultiDeleteResult{}, gofakes3.ErrNotImplemented
}

func (f *front) CopyObject(context.Context, string, string, string, string, map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObjectResult{}, gofakes3.ErrNotImplemented
}

// frontLog passes the front's faults on; what it tells of every request is
// dropped.
type frontLog struct{ log *slog.Logger }

func (l frontLog) Print(level gofakes3.LogLevel, v ...any) {
	if level == gofakes3.LogErr {
		l.log.Error("s3 front", "err", fmt.Sprint(v...))
	}
}
