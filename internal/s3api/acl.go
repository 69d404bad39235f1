package s3api

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"

	"github.com/s3fence/s3fence/internal/sigv4"
)

// Objects in a scope have the access control list of a bucket whose ACLs are
// disabled, as S3 makes buckets since 2023: their owner has full control and nobody
// else has any. Who asks for just that is answered 200; who asks for more is refused
// and not ignored, since an object that is silently not public is found out late, and
// one that is silently public later still. Source: Amazon S3 User Guide, "Controlling
// ownership of objects and disabling ACLs for your bucket".

// ownersOnly are the canned lists that give nobody else anything: the bucket's owner
// and the object's are one.
var ownersOnly = []string{"private", "bucket-owner-full-control", "bucket-owner-read"}

func noACLs() error {
	return fail(http.StatusBadRequest, "AccessControlListNotSupported", "The bucket does not allow ACLs: objects in a guarded scope are their owner's alone. Rights are given to access keys in the configuration of s3fence.")
}

// refuseGrants refuses headers that give others a right to an object.
func refuseGrants(h http.Header) error {
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Grant-") ||
			name == "X-Amz-Acl" && slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(ownersOnly, v) }) {
			return noACLs()
		}
	}
	return nil
}

// getACL answers what every object in a scope has.
func getACL(rq *request) error {
	if _, err := rq.s.reader.Stat(rq.ctx, rq.side, rq.ref()); err != nil {
		return err
	}
	x := newXML()
	defer x.free()
	x.root("AccessControlPolicy")
	rq.owner(x, "Owner")
	x.open("AccessControlList")
	x.open("Grant")
	x.buf.WriteString(`<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`)
	x.text("ID", ownerID)
	x.text("DisplayName", ownerName)
	x.close("Grantee")
	x.text("Permission", "FULL_CONTROL")
	x.close("Grant")
	x.close("AccessControlList")
	x.close("AccessControlPolicy")
	return rq.document(x)
}

// putACL takes the list that every object in a scope has, and no other. It is a
// write like any other to the fence.
func putACL(rq *request) error {
	doc, err := rq.readDocument(maxDocument, sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	rq.bodyIs(doc)
	if err := refuseGrants(rq.r.Header); err != nil {
		return err
	}
	switch canned := len(rq.r.Header["X-Amz-Acl"]) > 0; {
	case canned && len(doc) > 0:
		return fail(http.StatusBadRequest, "UnexpectedContent", "This request does not support content.")
	case !canned && len(doc) == 0:
		return fail(http.StatusBadRequest, "MissingSecurityHeader", "Your request was missing a required header: x-amz-acl.")
	case !canned:
		if err := checkACL(doc); err != nil {
			return err
		}
	}
	if err := rq.writer().Admit(rq.ctx, &rq.side, rq.ref()); err != nil {
		return err
	}
	return rq.empty()
}

// checkACL reads a list as PutObjectAcl sends it.
func checkACL(doc []byte) error {
	var in struct {
		XMLName xml.Name `xml:"AccessControlPolicy"`
		Owner   struct{ ID string }
		Grants  []struct {
			Grantee    struct{ ID, URI, EmailAddress string }
			Permission string
		} `xml:"AccessControlList>Grant"`
	}
	if err := decode(doc, &in); err != nil {
		return err
	}
	if in.Owner.ID != "" && in.Owner.ID != ownerID || len(in.Grants) != 1 {
		return noACLs()
	}
	if g := in.Grants[0]; g.Grantee.ID != ownerID || g.Grantee.URI != "" || g.Grantee.EmailAddress != "" || g.Permission != "FULL_CONTROL" {
		return noACLs()
	}
	return nil
}
