package sealed

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
)

// objectsPrefix is where physical objects live in every bucket.
const objectsPrefix = fence.Reserved + "objects/"

// names makes and reads physical keys. The deployment is part of them, so that
// the collector of one deployment never takes the objects of another for its
// own orphans.
type names struct{ deployment uuid.UUID }

// scopePrefix is the prefix of all physical keys of a scope.
func (n names) scopePrefix(s fence.Scope) string {
	sum := sha256.Sum256([]byte(n.deployment.String() + "\x00" + s.String()))
	return objectsPrefix + hex.EncodeToString(sum[:16]) + "/"
}

// name is the physical key of one attempt: one name, one attempt, never reused.
type name struct {
	Epoch   int64
	Attempt uuid.UUID
	Key     string
}

func (n names) fresh(s fence.Scope, epoch int64, attempt uuid.UUID) name {
	return name{epoch, attempt, n.scopePrefix(s) + nameOf(epoch, attempt)}
}

// parse reads a physical key below a scope's prefix; ok is false for anything
// that fresh did not make.
func parseName(prefix, key string) (nm name, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return name{}, false
	}
	epoch, id, ok := strings.Cut(rest, "/")
	if !ok {
		return name{}, false
	}
	e, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || e < 1 {
		return name{}, false
	}
	attempt, err := uuid.Parse(id)
	if err != nil {
		return name{}, false
	}
	// Both numbers have other spellings, which fresh does not use.
	if rest != nameOf(e, attempt) {
		return name{}, false
	}
	return name{e, attempt, key}, true
}

// nameOf is a physical key below its scope's prefix.
func nameOf(epoch int64, attempt uuid.UUID) string { return fmt.Sprintf("%010d/%s", epoch, attempt) }

// attemptOf reads the attempt id at the end of a physical key.
func attemptOf(key string) (uuid.UUID, bool) {
	if !strings.HasPrefix(key, objectsPrefix) {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(key[strings.LastIndexByte(key, '/')+1:])
	return id, err == nil
}
