-- The parts of multipart uploads and of the objects that they became: sizes and
-- checksums, which the store may not know.

-- +goose Up

-- A part that the store has taken. The ETag is in the key: of two requests for one
-- number the store keeps either. Rows go with their upload, or when it is completed.
CREATE TABLE upload_parts (
    upload    TEXT    NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL CHECK (number >= 1),
    etag      TEXT    NOT NULL,
    size      INTEGER NOT NULL CHECK (size >= 0),
    algorithm TEXT    NOT NULL,
    checksum  TEXT    NOT NULL,
    PRIMARY KEY (upload, number, etag)
) STRICT, WITHOUT ROWID;

-- The parts of an object, by the attempt that made its bytes: written with the
-- object's row, never changed, and dropped when the row goes or gets other bytes.
CREATE TABLE object_parts (
    attempt  BLOB    NOT NULL CHECK (length(attempt) = 16),
    position INTEGER NOT NULL CHECK (position >= 1),
    number   INTEGER NOT NULL CHECK (number >= 1),
    start    INTEGER NOT NULL CHECK (start >= 0),
    size     INTEGER NOT NULL CHECK (size >= 0),
    checksum TEXT    NOT NULL,
    PRIMARY KEY (attempt, position)
) STRICT, WITHOUT ROWID;
