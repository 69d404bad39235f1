package e2e

import (
	"testing"
	"time"

	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"
)

// Fenced are fenced credentials as the JSON API gives them out.
type Fenced struct {
	Version      int
	AccessKey    string `json:"AccessKeyId"`
	SecretKey    string `json:"SecretAccessKey"`
	SessionToken string
	Expiration   time.Time
	Scope        string `json:"scope"`
	Token        int64  `json:"token"`
}

// Fence asks for fenced credentials of a scope in the cluster's bucket.
func (c *Cluster) Fence(p *Proxy, prefix string, token int64) Fenced {
	c.t.Helper()
	var f Fenced
	p.API(c.t, "POST", "/-/v1/credentials", map[string]any{"scope": c.Scope(prefix), "token": token}).Want(c.t, 200).JSON(c.t, &f)
	return f
}

// sign makes a request one that is signed with the credentials.
func (f Fenced) sign(r Request) Request {
	r.AccessKey, r.SecretKey, r.SessionToken = f.AccessKey, f.SecretKey, f.SessionToken
	return r
}

// S3 makes an S3 client use the credentials.
func (f Fenced) S3(o *s3.Options) {
	o.Credentials = awscredentials.NewStaticCredentialsProvider(f.AccessKey, f.SecretKey, f.SessionToken)
}

// MinIO makes a client of minio-go use the credentials.
func (f Fenced) MinIO(o *minio.Options) {
	o.Creds = miniocredentials.NewStaticV4(f.AccessKey, f.SecretKey, f.SessionToken)
}

// Env makes programs use the credentials.
func (f Fenced) Env() map[string]string {
	return map[string]string{"AWS_ACCESS_KEY_ID": f.AccessKey, "AWS_SECRET_ACCESS_KEY": f.SecretKey, "AWS_SESSION_TOKEN": f.SessionToken}
}

// Put writes an object of the cluster's bucket with the credentials.
func (f Fenced) Put(t testing.TB, p *Proxy, key, body string) Answer {
	t.Helper()
	return p.Send(t, f.sign(Request{Method: "PUT", Bucket: p.cluster.Bucket, Key: key, Body: body}))
}

// Get reads an object of the cluster's bucket with the credentials.
func (f Fenced) Get(t testing.TB, p *Proxy, key string) Answer {
	t.Helper()
	return p.Send(t, f.sign(Request{Method: "GET", Bucket: p.cluster.Bucket, Key: key}))
}
