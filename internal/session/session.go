package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
)

const (
	// DefaultMaxAge is how long a session lasts at most.
	DefaultMaxAge = 7 * 24 * time.Hour

	// maxToken bounds a session token, in bytes: it travels in each request, in a
	// header or in a presigned URL.
	maxToken = 1500
	// maxSkew is how far in the future a session may have been issued, by the clock
	// of another proxy; as for signatures.
	maxSkew = 15 * time.Minute
	// maxKnown bounds the memory of opened sessions; one takes about 1 KiB.
	maxKnown = 4096
)

// ErrTooLong says that the scope does not fit into a session token. The caller
// sends its fencing token by header.
var ErrTooLong = errors.New("the scope is too long for fenced credentials")

// Options are what a [Ring] seals and opens with.
type Options struct {
	// Deployment is the id of the state; sessions of another one are refused.
	Deployment string
	// Secret enters the key of every session that is issued; may be empty.
	Secret string
	// Accepted are further secrets whose sessions are opened; "" among them stands
	// for sessions that were issued while there was no secret.
	Accepted []string
	// MaxAge is DefaultMaxAge where zero.
	MaxAge time.Duration
	// Now is time.Now where nil.
	Now func() time.Time
}

// Ring is a keyring that knows temporary credentials beside the configured ones.
// Safe for concurrent use.
type Ring struct {
	static  *auth.Keyring
	parents map[string]*parent
	known   *lru.Cache[sent, *live]
	maxAge  time.Duration
	now     func() time.Time
}

// parent is a credential that sessions act for. The first of its seals is the one
// that is sealed with.
type parent struct {
	credential *auth.Credential
	seals      []*seal
}

// New makes a Ring over configured credentials. It fails only where the
// cryptography of this program is restricted to what it does not use.
func New(static *auth.Keyring, o Options) (*Ring, error) {
	r := &Ring{static: static, parents: map[string]*parent{}, maxAge: o.MaxAge, now: o.Now}
	var err error
	if r.known, err = lru.New[sent, *live](maxKnown); err != nil {
		return nil, err
	}
	if r.maxAge <= 0 {
		r.maxAge = DefaultMaxAge
	}
	if r.now == nil {
		r.now = time.Now
	}
	for c := range static.Credentials() {
		p := &parent{credential: c}
		for _, secret := range append([]string{o.Secret}, o.Accepted...) {
			s, err := newSeal(o.Deployment, secret, c.SecretKey)
			if err != nil {
				return nil, fmt.Errorf("deriving the session keys of access key %s: %w", c.AccessKey, err)
			}
			p.seals = append(p.seals, s)
		}
		r.parents[c.AccessKey] = p
	}
	return r, nil
}

// Credentials are temporary credentials as they are handed out.
type Credentials struct {
	AccessKey, SecretKey, SessionToken string
	// Expires is when they are refused at the latest.
	Expires time.Time
}

// Issue makes credentials that act for who, or for who's own parent, and carry a
// scope and token that were found good. [ErrTooLong].
func (r *Ring) Issue(who *auth.Principal, sc fence.Scope, g fence.Generation, t fence.Token) (Credentials, error) {
	p := r.parents[who.AccessKey]
	if p == nil {
		return Credentials{}, fmt.Errorf("%w: %s", auth.ErrUnknownKey, who.AccessKey)
	}
	c := auth.Carried{Scope: sc, Generation: g, Token: t, Issued: r.now().Truncate(time.Second)}
	if who.Carried != nil {
		c.Issued = who.Carried.Issued
	}
	s, key := p.seals[0], newAccessKey()
	raw := s.seal(p.credential.AccessKey, key, c)
	if n := text.EncodedLen(len(raw)); n > maxToken {
		return Credentials{}, fmt.Errorf("%w: its session token would have %d bytes, of %d at most; send the token in the header X-Fencing-Token", ErrTooLong, n, maxToken)
	}
	secret, err := s.secretKey(key, raw)
	if err != nil {
		return Credentials{}, fmt.Errorf("deriving a secret key: %w", err)
	}
	return Credentials{AccessKey: key, SecretKey: secret, SessionToken: text.EncodeToString(raw), Expires: c.Issued.Add(r.maxAge)}, nil
}

// Principal finds who a request acts as, by its access key and the session token
// that came with it, "" for none. [auth.ErrUnknownKey], [auth.ErrBadToken],
// [auth.ErrExpired].
func (r *Ring) Principal(ctx context.Context, accessKey, sessionToken string) (*auth.Principal, error) {
	if sessionToken == "" || !temporary(accessKey) {
		return r.configured(ctx, accessKey, sessionToken)
	}
	l, err := r.open(accessKey, sessionToken)
	if err != nil {
		return nil, err
	}
	return l.principal, nil
}

// SecretKey is the key that a request must be signed with. Errors as of
// [Ring.Principal].
func (r *Ring) SecretKey(ctx context.Context, accessKey, sessionToken string) (string, error) {
	if sessionToken == "" || !temporary(accessKey) {
		p, err := r.configured(ctx, accessKey, sessionToken)
		if err != nil {
			return "", err
		}
		return p.SecretKey, nil
	}
	l, err := r.open(accessKey, sessionToken)
	if err != nil {
		return "", err
	}
	return l.secretKey, nil
}

func (r *Ring) configured(ctx context.Context, accessKey, sessionToken string) (*auth.Principal, error) {
	p, err := r.static.Principal(ctx, accessKey, sessionToken)
	if errors.Is(err, auth.ErrUnknownKey) && temporary(accessKey) {
		return nil, auth.ErrBadToken // it came without its session token
	}
	return p, err
}

// live is a session that was opened. Immutable.
type live struct {
	principal *auth.Principal
	secretKey string
}

// sent is what a session is opened by.
type sent struct{ accessKey, token string }

// open believes a token or says why not. Each request asks twice, for its signature
// and for its principal, and a session makes many: what was opened is remembered.
// What can end a session while this Ring lives is its age alone, looked at each
// time.
func (r *Ring) open(accessKey, token string) (*live, error) {
	l, ok := r.known.Get(sent{accessKey, token})
	if !ok {
		var err error
		if l, err = r.believe(accessKey, token); err != nil {
			return nil, err
		}
		// Only now: strangers cannot push out what is in use.
		r.known.Add(sent{accessKey, token}, l)
	}
	switch age := r.now().Sub(l.principal.Carried.Issued); {
	case age >= r.maxAge:
		return nil, auth.ErrExpired
	case age < -maxSkew:
		return nil, auth.ErrBadToken
	}
	return l, nil
}

func (r *Ring) believe(accessKey, token string) (*live, error) {
	o, ok := parse(token)
	if !ok {
		return nil, auth.ErrBadToken
	}
	p := r.parents[o.parent]
	if p == nil {
		return nil, auth.ErrUnknownKey
	}
	for _, s := range p.seals {
		if s.id != o.id {
			continue
		}
		c, ok := s.open(&o, accessKey)
		if !ok {
			continue
		}
		secret, err := s.secretKey(accessKey, o.raw)
		if err != nil {
			return nil, fmt.Errorf("deriving a secret key: %w", err)
		}
		return &live{&auth.Principal{Credential: p.credential, Carried: &c}, secret}, nil
	}
	return nil, auth.ErrBadToken
}
