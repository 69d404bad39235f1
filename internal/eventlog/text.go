package eventlog

import (
	"strings"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
)

const (
	// maxText and maxReason bound texts, in bytes: what a client sends is recorded.
	maxText   = 256
	maxReason = 1024
)

// clip bounds what one event takes of memory.
func clip(e *events.Event) {
	cut(&e.Bucket, maxText)
	cut(&e.Key, fence.MaxKeyBytes)
	cut(&e.Guard, fence.MaxKeyBytes+maxText)
	cut(&e.Holder, maxText)
	cut(&e.Owner, maxText)
	cut(&e.Previous, 2*maxText)
	cut(&e.AccessKey, maxText)
	cut(&e.Remote, maxText)
	cut(&e.Operation, maxText)
	cut(&e.RequestID, maxText)
	cut(&e.Code, maxText)
	cut(&e.Reason, maxReason)
}

func cut(s *string, most int) {
	if len(*s) > most {
		*s = strings.Clone((*s)[:most])
	}
}

// tidy makes texts that every database takes: UTF-8 without NUL. Keys are bytes
// and stay as they are.
func tidy(e *events.Event) {
	for _, s := range []*string{(*string)(&e.Kind), &e.Bucket, &e.Guard, &e.Holder, &e.Owner, &e.Previous, &e.AccessKey, &e.Remote,
		&e.Operation, (*string)(&e.Access), &e.RequestID, &e.Code, &e.Reason} {
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\uFFFD"), "\x00", "\uFFFD")
	}
}
