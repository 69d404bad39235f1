package objectstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of this package. Each is wrapped with the directory and the remedy.
var (
	// ErrInUse says that another process holds the directory: stop that
	// process or choose another directory.
	ErrInUse = errors.New("object store directory is in use")

	// ErrLayout says that the directory holds something that this build
	// cannot read. Nothing in it was changed.
	ErrLayout = errors.New("object store layout not understood")

	// ErrClosed is returned by every write after Close.
	ErrClosed = errors.New("object store is closed")

	// ErrBucketExists is returned by CreateBucket.
	ErrBucketExists = errors.New("bucket exists")

	// ErrBroken says that a commit failed in a way that leaves unknown what
	// is on the disk. Every later write is refused until the store is opened
	// again, since commits behind a lost one would be lost with it.
	ErrBroken = errors.New("object store stopped writing after a failed commit")
)

// Options configure Open. The zero value of every field but the keys is usable.
type Options struct {
	// AccessKey and SecretKey are the one credential the handler accepts.
	// Both are required; AccessKey has at least 3 characters.
	AccessKey, SecretKey string

	// Logger receives faults that no answer can carry (a blob that cannot be
	// removed, an internal error). nil discards.
	Logger *slog.Logger

	// InlineBytes is the largest object kept inside the database rather than
	// in a file of its own, in bytes. 0 means 32 KiB, about where both ways
	// were measured to cost the same; negative means none.
	InlineBytes int

	// MinPartBytes is the least size of every part but the last. 0 means S3's
	// 5 MiB; negative means no bound.
	MinPartBytes int64
}

// Store is a durable S3 object store in one directory. Its methods may be
// called concurrently.
type Store struct {
	dir      string
	opts     Options
	log      *slog.Logger
	lock     *os.File
	writerDB *sql.DB
	readDB   *sql.DB
	blobs    *blobs
	commits  *committer
	bodies   atomic.Int64 // the last body id handed out
	handler  http.Handler

	closeOnce sync.Once
	closeErr  error
}

// Open opens the object store in dir, creating it when dir is empty or absent.
// It removes what writes that never committed left behind, which takes time
// proportional to the number of blob files (100,000 in about a second).
// Errors wrap ErrInUse or ErrLayout where these apply.
func Open(ctx context.Context, dir string, opts Options) (_ *Store, err error) {
	if len(opts.AccessKey) < 3 || opts.SecretKey == "" {
		return nil, errors.New("open object store: AccessKey (3 characters or more) and SecretKey are required")
	}
	if opts.InlineBytes == 0 {
		opts.InlineBytes = 32 << 10
	}
	if opts.MinPartBytes == 0 {
		opts.MinPartBytes = 5 << 20
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	s := &Store{dir: dir, opts: opts, log: opts.Logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if s.writerDB, err = openPool(dir, true); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := prepareLayout(ctx, s.writerDB, dir); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if s.readDB, err = openPool(dir, false); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := s.loadBodies(ctx); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if s.blobs, err = openBlobs(dir, s.log); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := s.sweep(ctx); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if s.commits, err = startCommitter(ctx, s.writerDB, s.blobs); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	s.handler = newHandler(s)
	return s, nil
}

// Handler returns the S3 API over the store. Every request must carry a valid
// AWS Signature Version 4 of the store's credential.
func (s *Store) Handler() http.Handler { return s.handler }

// Close waits for the commits under way, refuses later ones with ErrClosed and
// releases the directory. Stop serving requests first: reads that still run
// may fail. It is safe to call it again.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.commits.close()
		s.closeErr = s.release()
	})
	return s.closeErr
}

func (s *Store) release() error {
	var errs []error
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.writerDB != nil {
		errs = append(errs, s.writerDB.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// CreateBucket creates an empty bucket, durably. It returns an error that
// wraps ErrBucketExists when there is one of that name.
func (s *Store) CreateBucket(ctx context.Context, name string) error {
	if err := validateBucket(name); err != nil {
		return err
	}
	return s.commits.do(ctx, func(t *txn) error {
		if _, err := t.bucket(name); err == nil {
			return fmt.Errorf("create bucket %q: %w", name, ErrBucketExists)
		} else if !isCode(err, "NoSuchBucket") {
			return err
		}
		return t.exec(`INSERT INTO buckets (name, created) VALUES (?, ?)`, name, time.Now().UnixMilli())
	})
}

// deleteBucket removes a bucket that has neither objects nor uploads.
func (s *Store) deleteBucket(ctx context.Context, name string) error {
	return s.commits.do(ctx, func(t *txn) error {
		id, err := t.bucket(name)
		if err != nil {
			return err
		}
		var used bool
		const occupied = `SELECT EXISTS (SELECT 1 FROM objects WHERE bucket = ?1) OR EXISTS (SELECT 1 FROM uploads WHERE bucket = ?1)`
		if err := t.row(occupied, id).Scan(&used); err != nil {
			return err
		}
		if used {
			return fail("BucketNotEmpty", "The bucket %q still holds objects or multipart uploads", name)
		}
		return t.exec(`DELETE FROM buckets WHERE id = ?`, id)
	})
}

// bucketID resolves a bucket outside of a transaction. A bucket deleted and
// made again has a new id, so a stale one finds nothing.
func (s *Store) bucketID(ctx context.Context, name string) (int64, error) {
	var id int64
	err := s.readDB.QueryRowContext(ctx, `SELECT id FROM buckets WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, noSuchBucket(name)
	}
	return id, err
}

// loadBodies continues the body ids. Ids of bodies that are gone may come
// again after a restart: nothing in memory outlives the process.
func (s *Store) loadBodies(ctx context.Context) error {
	var last int64
	const q = `SELECT max(coalesce((SELECT max(body) FROM inlined), 0), coalesce((SELECT max(body) FROM segments), 0))`
	if err := s.readDB.QueryRowContext(ctx, q).Scan(&last); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLayout, filepath.Join(s.dir, databaseFile), err)
	}
	s.bodies.Store(last)
	return nil
}

// sweep removes the blob files that no committed segment names: uploads that
// were cut short, and replaced bodies whose removal a crash prevented.
func (s *Store) sweep(ctx context.Context) error {
	return s.blobs.sweep(func(first byte) (map[blobName]bool, error) {
		rows, err := s.readDB.QueryContext(ctx, `SELECT DISTINCT blob FROM segments WHERE blob >= ? AND blob < ?`,
			[]byte{first}, after([]byte{first}))
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		live := map[blobName]bool{}
		for rows.Next() {
			var b sql.RawBytes
			if err := rows.Scan(&b); err != nil {
				return nil, err
			}
			live[blobName(b)] = true
		}
		return live, rows.Err()
	})
}
