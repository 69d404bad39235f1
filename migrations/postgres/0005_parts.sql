-- The parts of multipart uploads and of the objects that they became: sizes and
-- checksums, which the store may not know. The bytes are the store's matter.

-- +goose Up

-- A part that the store has taken. The ETag is in the key: of two requests for one
-- number the store keeps either, and what is said of one must not be taken for the
-- other's. Rows go with their upload, or when it is completed.
CREATE TABLE upload_parts (
    upload    text    COLLATE "C" NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number    integer NOT NULL CHECK (number >= 1),
    etag      text    COLLATE "C" NOT NULL,
    size      bigint  NOT NULL CHECK (size >= 0),
    algorithm text    NOT NULL,
    checksum  text    NOT NULL,
    PRIMARY KEY (upload, number, etag)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The parts of an object, by the attempt that made its bytes: written with the
-- object's row, never changed, and dropped when the row goes or gets other bytes.
-- position counts from 1 without gaps; number is what the client called the part.
CREATE TABLE object_parts (
    attempt  uuid    NOT NULL,
    position integer NOT NULL CHECK (position >= 1),
    number   integer NOT NULL CHECK (number >= 1),
    start    bigint  NOT NULL CHECK (start >= 0),
    size     bigint  NOT NULL CHECK (size >= 0),
    checksum text    NOT NULL,
    PRIMARY KEY (attempt, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
