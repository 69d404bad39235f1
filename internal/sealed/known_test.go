package sealed

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/state"
)

// A remembered verdict says how long ago the newer grant was, by the database's
// clock and whatever this machine's says, as one of the state's does.
func TestKnownStaleSaysHowLongAgo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Store{known: newRecall()}
		sc, err := fence.ParseScope(jobs)
		require.NoError(t, err)
		database := time.Now().Add(-1000 * time.Hour)
		row := state.NewScope(sc, fence.Sealed)
		row.Mark.Token, row.Last = 34, fence.Grant{Owner: "ann@host", At: database}
		op := &guarded.Op{Guard: &fence.Guard{Tokens: fence.Required, Issuer: fence.Own}, Scope: sc, Request: fence.Request{Token: 33}}

		s.known.learn(database.Add(2*time.Second), row)
		time.Sleep(time.Second)
		r := s.KnownStale(op)
		require.NotNil(t, r)
		assert.Equal(t, 3*time.Second, r.Since())
		assert.Equal(t, "token 33 of s3://data/jobs/ is stale: 34 was granted to ann@host 3 s ago. Stop writing; take the lock again.", r.Error())

		// An older row that comes late takes nothing back.
		before := row
		before.Mark.Token = 33
		s.known.learn(database, before)
		time.Sleep(time.Second)
		assert.Equal(t, 4*time.Second, s.KnownStale(op).Since())
	})
}
