package proxy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/s3api"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Check finds what is wrong with a configuration beyond what package config can
// know: patterns that are none, guards that overlap. It connects to nothing. Its
// error is a [config.Errors].
func Check(c *config.Config) error {
	_, err := guardsOf(c)
	return err
}

// guardsOf are the guards of the configuration.
func guardsOf(c *config.Config) ([]fence.Guard, error) {
	var problems config.Errors
	list := make([]fence.Guard, 0, len(c.Guards))
	for i, g := range c.Guards {
		key := fmt.Sprintf("guards[%d].pattern", i)
		p, err := fence.ParsePattern(g.Pattern)
		if err != nil {
			problems = append(problems, c.Problem(key, err.Error(), ""))
			continue
		}
		for j, other := range list {
			if other.Pattern.Overlaps(p) {
				problems = append(problems, c.Problem(key, fmt.Sprintf("%s overlaps %s of guards[%d]", p, other.Pattern, j), "a key must belong to one fence: remove one, or make them disjoint"))
			}
		}
		list = append(list, fence.Guard{
			Pattern: p, Writes: fence.Writes(g.Writes), Tokens: fence.Tokens(g.Tokens),
			Issuer: fence.Issuer(g.Issuer), MaxJump: g.MaxJump, LockDelay: g.LockDelay,
		})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return list, nil
}

// keyringOf makes principals of the configured credentials.
func keyringOf(c *config.Config) (*auth.Keyring, error) {
	creds := make([]auth.Credential, 0, len(c.Credentials))
	for i := range c.Credentials {
		from := &c.Credentials[i]
		cr := auth.Credential{AccessKey: from.AccessKey, SecretKey: from.SecretKey.Reveal(), Unfenced: from.Unfenced == "allow"}
		for _, g := range from.AllGrants() {
			var rights auth.Right
			for _, name := range g.Rights {
				r, err := auth.ParseRight(name)
				if err != nil {
					return nil, c.Problem(fmt.Sprintf("credentials[%d]", i), err.Error(), "")
				}
				rights |= r
			}
			for _, place := range g.Buckets {
				// "*" is auth.Anywhere already.
				bucket, prefix, _ := strings.Cut(place, "/")
				cr.Grants = append(cr.Grants, auth.Grant{Bucket: bucket, Prefix: prefix, Rights: rights})
			}
		}
		creds = append(creds, cr)
	}
	return auth.NewKeyring(creds)
}

// buckets finds the store of a client's bucket. It is immutable.
type buckets struct {
	clients map[string]*upstream.Client
	named   map[string]place
	names   []string
	only    *upstream.Client
	// hosts says that the only store has its buckets as host names.
	hosts bool
}

type place struct {
	client *upstream.Client
	bucket string
}

// Bucket is where a client's bucket lies; s3api.ErrNoSuchBucket where it is none.
func (b *buckets) Bucket(name string) (*upstream.Client, string, error) {
	if b.only != nil {
		if b.hosts && strings.ToLower(name) != name {
			// In a host name it would be the bucket without capitals, whose guards do
			// not know it by this name.
			return nil, "", s3api.ErrNoSuchBucket
		}
		return b.only, name, nil
	}
	at, ok := b.named[name]
	if !ok {
		return nil, "", s3api.ErrNoSuchBucket
	}
	return at.client, at.bucket, nil
}

// Names are the buckets that are configured by name.
func (b *buckets) Names() []string { return b.names }

// Only is the one store of all buckets, where none is configured by name.
func (b *buckets) Only() *upstream.Client { return b.only }

func (b *buckets) close() {
	for _, c := range b.clients {
		c.Close()
	}
}

// bucketsOf makes clients of the configured stores. It sends nothing.
func bucketsOf(c *config.Config) (*buckets, error) {
	b := &buckets{clients: map[string]*upstream.Client{}, named: map[string]place{}}
	for name, u := range c.Upstreams {
		var ca []byte
		if u.CAFile != "" {
			var err error
			if ca, err = os.ReadFile(string(u.CAFile)); err != nil {
				return nil, c.Problem("upstreams."+name+".ca_file", err.Error(), "check path and permissions")
			}
		}
		client, err := upstream.New(upstream.Config{
			Name: name, Endpoint: u.Endpoint, Region: u.Region, AccessKey: u.AccessKey, SecretKey: u.SecretKey.Reveal(),
			PathStyle: u.PathStyle, Validity: c.UpstreamValidity, Direct: u.Path == "direct", CA: ca,
		})
		if err != nil {
			return nil, c.Problem("upstreams."+name, err.Error(), "")
		}
		b.clients[name] = client
		b.hosts = !u.PathStyle
	}
	if len(c.Buckets) == 0 {
		for _, client := range b.clients {
			b.only = client
		}
		if len(b.clients) != 1 {
			return nil, errors.New("without buckets there must be exactly one upstream")
		}
		return b, nil
	}
	b.names = slices.Sorted(maps.Keys(c.Buckets))
	for _, name := range b.names {
		b.named[name] = place{b.clients[c.Buckets[name].Upstream], c.Buckets[name].Bucket}
	}
	return b, nil
}
