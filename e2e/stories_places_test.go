package e2e

import (
	"testing"

	"github.com/s3fence/s3fence/internal/pgtest"
)

// places are the deployments on which the stories of the fence are told. Each
// gives a cluster whose bucket has the scopes jobs/ and other/, both with tokens
// required, and two proxies where more than one can be.
var places = []struct {
	name string
	open func(t *testing.T) *Cluster
}{
	{"PostgreSQL and MinIO", func(t *testing.T) *Cluster {
		return NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "other/"}}})
	}},
	{"SQLite and the embedded store", func(t *testing.T) *Cluster {
		return NewDev(t, Options{})
	}},
	{"PostgreSQL behind PgBouncer", func(t *testing.T) *Cluster {
		dsn := pgtest.DSN(t)
		return NewCluster(t, Options{
			Proxies: 2, DSN: pgtest.Bouncer(t, dsn), MigrateDSN: dsn,
			Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "other/"}},
		})
	}},
}

// everywhere tells a story in each of the places.
func everywhere(t *testing.T, story func(t *testing.T, c *Cluster)) {
	t.Helper()
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			story(t, place.open(t))
		})
	}
}

// last is the proxy that is not the first, where there are two.
func (c *Cluster) last() *Proxy { return c.Proxies[len(c.Proxies)-1] }
