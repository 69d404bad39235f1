package postgres

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/state"
)

// lateError is a relay that says, once armed, ERROR between the answer to COMMIT
// and the end of the flush.
func lateError(t *testing.T, dsn string) (through string, armed *atomic.Bool) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fields := []byte("SERROR\x00VERROR\x00C57014\x00Mcanceling statement due to user request\x00\x00")
	insert := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(fields)+4))
	insert = append(insert, fields...)
	answer := []byte("C\x00\x00\x00\x0bCOMMIT\x00")
	armed = &atomic.Bool{}
	var all sync.WaitGroup
	relay := func(to, from net.Conn, change func([]byte) []byte) {
		defer to.Close()
		defer from.Close()
		for b := make([]byte, 64<<10); ; {
			n, err := from.Read(b)
			if _, werr := to.Write(change(b[:n])); err != nil || werr != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			all.Go(func() { relay(behind, client, func(b []byte) []byte { return b }) })
			all.Go(func() {
				relay(client, behind, func(b []byte) []byte {
					// PostgreSQL sends the answers of a short flush in one piece.
					if i := bytes.Index(b, answer); i >= 0 && armed.CompareAndSwap(true, false) {
						i += len(answer)
						return append(append(append([]byte{}, b[:i]...), insert...), b[i:]...)
					}
					return b
				})
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	u.Host = l.Addr().String()
	return u.String(), armed
}

// TestErrorAfterTheAnswerToCommit: an ERROR means that nothing happened, unless
// COMMIT was answered before it (F7).
func TestErrorAfterTheAnswerToCommit(t *testing.T) {
	t.Parallel()
	through, armed := lateError(t, migrated(t))
	db := open(t, through, 2)
	sc := testScope(t, "s3://data/jobs/")
	warm, _ := putOne(sc, "warm", nil)
	require.NoError(t, db.Transact(t.Context(), warm))
	tx, ref := putOne(sc, "a", func() { armed.Store(true) })
	err := db.Transact(t.Context(), tx)
	require.False(t, armed.Load())
	require.True(t, exists(t, db, ref))
	require.ErrorIs(t, err, state.ErrUnknown)
	tx, ref = putOne(sc, "b", func() { armed.Store(true) })
	require.NoError(t, state.Run(t.Context(), db, tx))
	require.True(t, exists(t, db, ref))
}
