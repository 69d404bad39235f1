package awss3

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3fence/s3fence/client"
)

const (
	tokenName = "X-Fencing-Token"
	scopeName = "X-Fencing-Scope"
)

// New makes an S3 client of the service that the lock was taken from. It signs
// with fenced credentials; options change what else they like, such as the
// HTTPClient where a certificate needs an authority of its own.
func New(held *client.Held, options ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(held.Client().Endpoint()),
		Region:       held.Client().Region(),
		UsePathStyle: true,
		Credentials:  held.Credentials(),
	}, options...)
}

// Stamp is an option of S3 clients and of single calls: requests in the lock's
// scope carry its token, signed. Several locks may stamp the requests of one
// client; of two on one scope the later option counts. A batch delete of keys
// inside and outside of the scope fails without being sent: one request carries
// one token.
func Stamp(held *client.Held) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			_, presigned := stack.Finalize.Get((*v4.PresignHTTPRequestMiddleware)(nil).ID())
			m := &stamp{held, presigned}
			if _, there := stack.Serialize.Get(m.ID()); there {
				_, err := stack.Serialize.Swap(m.ID(), m)
				return err
			}
			// Last of its step, so the request has been written, and before every step
			// that signs.
			return stack.Serialize.Add(m, middleware.After)
		})
	}
}

type stamp struct {
	held *client.Held
	// presigned puts the token into the query: whoever is given the URL need not
	// know of it.
	presigned bool
}

// ID tells the middleware of one lock from that of another.
func (s *stamp) ID() string { return "FencingToken " + s.held.Scope() }

// HandleSerialize stamps a request whose input lies in the scope.
func (s *stamp) HandleSerialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
	inside, err := s.inside(in.Parameters)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	if !inside {
		return next.HandleSerialize(ctx, in)
	}
	if s.held.Context().Err() != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, context.Cause(s.held.Context())
	}
	r, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("a request of the unknown type %T cannot carry a fencing token", in.Request)
	}
	token, scope := strconv.FormatInt(s.held.Token(), 10), s.held.Lease().Ref()
	if s.presigned {
		q := r.URL.Query()
		q.Set(tokenName, token)
		q.Set(scopeName, scope)
		r.URL.RawQuery = q.Encode()
	} else {
		r.Header.Set(tokenName, token)
		r.Header.Set(scopeName, scope)
	}
	return next.HandleSerialize(ctx, in)
}

// inside reports whether all that an input names lies in the scope. The inputs
// of the SDK are structs with fields of the same names throughout.
func (s *stamp) inside(input any) (bool, error) {
	if in, ok := input.(*s3.DeleteObjectsInput); ok {
		return s.batch(in)
	}
	bucket, ok := field(input, "Bucket")
	if !ok {
		return false, nil
	}
	if key, ok := field(input, "Key"); ok {
		return s.has(bucket, key), nil
	}
	switch input.(type) {
	case *s3.ListObjectsInput, *s3.ListObjectsV2Input, *s3.ListObjectVersionsInput, *s3.ListMultipartUploadsInput:
		prefix, _ := field(input, "Prefix")
		return s.has(bucket, prefix), nil
	}
	return false, nil
}

func (s *stamp) batch(in *s3.DeleteObjectsInput) (bool, error) {
	if in.Delete == nil {
		return false, nil
	}
	inside, outside := "", ""
	some, others := false, false
	for _, o := range in.Delete.Objects {
		key := aws.ToString(o.Key)
		if s.has(aws.ToString(in.Bucket), key) {
			inside, some = key, true
		} else {
			outside, others = key, true
		}
	}
	if some && others {
		return false, fmt.Errorf("%w: a batch delete of keys inside and outside of %s, such as %q and %q, cannot carry its token; delete them in two batches",
			client.ErrInvalid, s.held.Scope(), inside, outside)
	}
	return some, nil
}

func (s *stamp) has(bucket, key string) bool {
	return strings.HasPrefix("s3://"+bucket+"/"+key, s.held.Scope())
}

// field reads a string of an input.
func field(input any, name string) (string, bool) {
	v := reflect.ValueOf(input)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return "", false
	}
	f := v.Elem().FieldByName(name)
	if !f.IsValid() {
		return "", false
	}
	s, ok := f.Interface().(*string)
	return aws.ToString(s), ok && s != nil
}
