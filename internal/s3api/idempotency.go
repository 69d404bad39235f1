package s3api

import (
	"crypto/sha256"
	"strings"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

const (
	headerKey        = "Idempotency-Key"
	headerInvocation = "Amz-Sdk-Invocation-Id"
	// maxInvocation bounds the id that an SDK gives a request, in bytes.
	maxInvocation = 256
)

// readKey reads the Idempotency-Key of a request that changes something. Outside
// of every guard it counts for nothing and must be one all the same. In a presigned
// URL it must be what was signed: whoever may send one request of a credential must
// not use up the keys of all its others.
func (rq *request) readKey() error {
	if !rq.op.mutates() {
		return nil
	}
	key, err := idempotency.CheckKey(rq.r.Header[headerKey])
	if err != nil {
		return err
	}
	if key != "" && rq.signed.Kind == sigv4.KindPresigned && rq.signed.SignedHeader(headerKey) == nil {
		return invalid("the header %s is not among the signed headers of this presigned URL; sign it, or leave it out", headerKey)
	}
	rq.idempotencyKey = key
	return nil
}

// identify says by what a request is known again when it is sent again: the name
// that its sender chose, else the id that AWS SDKs send with every request.
func (rq *request) identify(op *guarded.Op) {
	if op.Named = rq.named(); op.Named != nil {
		return
	}
	if v := rq.r.Header[headerInvocation]; len(v) == 1 && len(v[0]) <= maxInvocation {
		op.RetryID = v[0]
	}
}

// named is the request under its Idempotency-Key, one for the whole request; nil
// where it has none. All that changes what a write does is part of it.
func (rq *request) named() *idempotency.Request {
	if rq.idempotencyKey == "" || rq.request != nil {
		return rq.request
	}
	n := idempotency.New(rq.who.AccessKey, rq.idempotencyKey, rq.op.name, object.Ref{Bucket: rq.bucket, Key: rq.key}.String())
	for _, p := range rq.signed.Params {
		if !tolerated(p.Name) {
			n.Part("the parameter "+p.Name, p.Value)
		}
	}
	for name, values := range rq.r.Header {
		if !rq.meant(name) {
			continue
		}
		value := strings.Join(values, ",")
		if name == "Content-Encoding" {
			if value = sigv4.ContentEncoding(rq.r.Header); value == "" {
				continue
			}
		}
		n.Part("the header "+strings.ToLower(name), value)
	}
	rq.request = n
	return n
}

// meant reports whether a header says what a write is to do: its object's
// attributes, its conditions, its source. Everything else with x-amz- counts too,
// but for what belongs to the signature or to the body, which is compared itself.
func (rq *request) meant(name string) bool {
	switch name {
	case "If-Match", "If-None-Match":
		return true
	case "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer",
		"X-Amz-User-Agent", "X-Amz-Te", "X-Amz-Mfa", "X-Amz-Sdk-Checksum-Algorithm":
		return false
	case "X-Amz-Checksum-Type", "X-Amz-Checksum-Algorithm":
		return true
	}
	switch {
	case strings.HasPrefix(name, "X-Amz-Checksum-"):
		// Of the whole object where the body is a list of its parts.
		return rq.op.name == "CompleteMultipartUpload"
	case strings.HasPrefix(name, "X-Amz-"):
		return true
	}
	// Of a document they say how it is written.
	return storedHeaders[name] && rq.op.body != document
}

// bodyIs names the body of a request that is read whole.
func (rq *request) bodyIs(doc []byte) {
	if n := rq.named(); n != nil {
		n.Body(sha256.Sum256(doc))
	}
}
