package s3api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestACLsInAScope(t *testing.T) { overWays(t, testACLsInAScope) }

func testACLsInAScope(t *testing.T, b *bench) {
	ctx, bucket, key := t.Context(), aws.String("data"), aws.String("jobs/a/k")
	c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34")
	private := &s3.PutObjectAclInput{Bucket: bucket, Key: key, ACL: types.ObjectCannedACLPrivate}
	_, err := c.PutObjectAcl(ctx, private)
	wantCode(t, err, "NoSuchKey")
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body("x"), ACL: types.ObjectCannedACLBucketOwnerFullControl}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObjectAcl(ctx, private); err != nil {
		t.Error(err)
	}
	// What GetObjectAcl answers can be put back.
	is, err := c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	policy := func(change func(*types.AccessControlPolicy)) *s3.PutObjectAclInput {
		p := &types.AccessControlPolicy{Owner: is.Owner, Grants: is.Grants}
		change(p)
		return &s3.PutObjectAclInput{Bucket: bucket, Key: key, AccessControlPolicy: p}
	}
	if _, err := c.PutObjectAcl(ctx, policy(func(*types.AccessControlPolicy) {})); err != nil {
		t.Error(err)
	}
	everyone := types.Grant{Permission: types.PermissionRead, Grantee: &types.Grantee{Type: types.TypeGroup, URI: aws.String("http://acs.amazonaws.com/groups/global/AllUsers")}}
	for name, in := range map[string]*s3.PutObjectAclInput{
		"public":         {Bucket: bucket, Key: key, ACL: types.ObjectCannedACLPublicRead},
		"granted":        {Bucket: bucket, Key: key, ACL: types.ObjectCannedACLPrivate, GrantRead: aws.String("id=ann")},
		"everyone, too":  policy(func(p *types.AccessControlPolicy) { p.Grants = append(p.Grants, everyone) }),
		"everyone alone": policy(func(p *types.AccessControlPolicy) { p.Grants = []types.Grant{everyone} }),
		"nobody":         policy(func(p *types.AccessControlPolicy) { p.Grants = nil }),
		"another's":      policy(func(p *types.AccessControlPolicy) { p.Owner = &types.Owner{ID: aws.String("ann")} }),
	} {
		_, err := c.PutObjectAcl(ctx, in)
		t.Log(name)
		wantCode(t, err, "AccessControlListNotSupported")
	}
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body("y"), ACL: types.ObjectCannedACLPublicRead})
	wantCode(t, err, "AccessControlListNotSupported")
	_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, GrantFullControl: aws.String("id=ann")})
	wantCode(t, err, "AccessControlListNotSupported")

	// It is a write: without a token, and with a stale one, it is refused.
	for token, want := range map[string]string{"": codeMissing, "33": codeStale} {
		h := map[string]string{"X-Amz-Acl": "private"}
		if token != "" {
			h["X-Fencing-Token"] = token
		}
		if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k?acl", header: h}); got.code() != want {
			t.Errorf("token %q: %d %s", token, got.status, got.body)
		}
	}
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k?acl", header: map[string]string{"X-Fencing-Token": "34"}}); got.code() != "MissingSecurityHeader" {
		t.Errorf("neither: %s", got.body)
	}
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k?acl", header: map[string]string{"X-Fencing-Token": "34"}, body: strings.Repeat("<", 9)}); got.code() != "MalformedXML" {
		t.Errorf("no XML: %s", got.body)
	}
}
