package minios3

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/s3fence/s3fence/client"
)

const (
	tokenName = "X-Fencing-Token"
	scopeName = "X-Fencing-Scope"
	metaToken = "Fencing-Token"
	metaScope = "Fencing-Scope"
)

// New makes a client of the service that the lock was taken from. It signs with
// fenced credentials. options may be nil; Creds, Secure and Region of it are
// replaced.
func New(held *client.Held, options *minio.Options) (*minio.Client, error) {
	var o minio.Options
	if options != nil {
		o = *options
	}
	scheme, host, _ := strings.Cut(held.Client().Endpoint(), "://")
	o.Creds, o.Secure, o.Region = Credentials(held), scheme == "https", held.Client().Region()
	if o.BucketLookup == minio.BucketLookupAuto {
		o.BucketLookup = minio.BucketLookupPath
	}
	return minio.New(host, &o)
}

// Credentials are the hold's fenced credentials. minio-go asks them before each
// request whether they are still good; once the hold has ended they are not, and
// the request fails with its cause.
func Credentials(held *client.Held) *credentials.Credentials {
	return credentials.New(&provider{held: held})
}

// provider lends the hold's credentials to minio-go, which keeps them until
// IsExpired.
type provider struct {
	held *client.Held

	mu    sync.Mutex
	until time.Time
}

// RetrieveWithCredContext fetches them, or the ones fetched before.
func (p *provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	ctx := context.Background()
	if cc != nil && cc.Context != nil {
		ctx = cc.Context
	}
	c, err := p.held.Credentials().Retrieve(ctx)
	if err != nil {
		return credentials.Value{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = c.Expires
	return credentials.Value{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
		Expiration: c.Expires, SignerType: credentials.SignatureV4,
	}, nil
}

// Retrieve is what minio-go called before there were contexts.
func (p *provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// IsExpired looks at the hold too.
func (p *provider) IsExpired() bool {
	if p.held.Context().Err() != nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.until)
}

// alive fails once the hold has ended.
func alive(held *client.Held) error {
	if held.Context().Err() != nil {
		return context.Cause(held.Context())
	}
	return nil
}

// stamped is metadata with the token.
func stamped(held *client.Held, meta map[string]string) map[string]string {
	// Names of metadata are case-blind; two spellings would be sent as one.
	out := make(map[string]string, len(meta)+2)
	maps.Copy(out, meta)
	maps.DeleteFunc(out, func(name, _ string) bool {
		return strings.EqualFold(name, metaToken) || strings.EqualFold(name, metaScope)
	})
	out[metaToken], out[metaScope] = strconv.FormatInt(held.Token(), 10), held.Lease().Ref()
	return out
}

// StampPut makes a PutObject, FPutObject or upload in parts of an object in the
// lock's scope carry its token, as metadata that s3fence takes off. It fails with
// the cause once the hold has ended.
func StampPut(held *client.Held, o *minio.PutObjectOptions) error {
	if err := alive(held); err != nil {
		return err
	}
	o.UserMetadata = stamped(held, o.UserMetadata)
	return nil
}

// StampCopy makes a CopyObject or ComposeObject to an object in the lock's scope
// carry its token. S3 takes metadata with a copy only where it replaces the
// source's, so o.ReplaceMetadata must be set, and UserMetadata is what the copy
// will have.
func StampCopy(held *client.Held, o *minio.CopyDestOptions) error {
	if err := alive(held); err != nil {
		return err
	}
	if !o.ReplaceMetadata {
		return fmt.Errorf("%w: a copy that keeps the metadata of its source cannot carry a token; set ReplaceMetadata, or use minios3.Credentials", client.ErrInvalid)
	}
	o.UserMetadata = stamped(held, o.UserMetadata)
	return nil
}

// StampGet makes a GetObject or StatObject in the lock's scope carry its token,
// in a signed header: it is refused once the token is stale.
func StampGet(held *client.Held, o *minio.GetObjectOptions) error {
	if err := alive(held); err != nil {
		return err
	}
	o.Set(tokenName, strconv.FormatInt(held.Token(), 10))
	o.Set(scopeName, held.Lease().Ref())
	return nil
}

// Query is what to give to Presign, PresignHeader and PresignedGetObject as
// request parameters: the URL then carries the token, signed. PresignedPutObject
// takes none; Presign with method PUT does the same.
func Query(held *client.Held) (url.Values, error) {
	if err := alive(held); err != nil {
		return nil, err
	}
	return url.Values{tokenName: {strconv.FormatInt(held.Token(), 10)}, scopeName: {held.Lease().Ref()}}, nil
}
