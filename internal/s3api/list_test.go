package s3api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

func TestListGolden(t *testing.T) {
	t.Parallel()
	entries := []guarded.Entry{
		{Info: object.Info{Ref: object.Ref{Key: "a &<b>\x01\"+ü"}, Size: 7, ETag: "e1", Modified: time.Unix(1700000000, 123e6), Attributes: object.Attributes{Checksums: map[string]string{"SHA256": "x"}, ChecksumType: "FULL_OBJECT"}}},
		{Info: object.Info{Ref: object.Ref{Key: "d/"}}, Prefix: true},
		{Info: object.Info{Ref: object.Ref{Key: "e"}, ETag: "e2", Modified: time.Unix(1700000000, 0)}, StorageClass: "GLACIER", OwnerID: "o"},
	}
	var out strings.Builder
	for _, q := range []listQuery{
		{ListQuery: guarded.ListQuery{Bucket: "data", Prefix: "p q", Delimiter: "/"}, v2: true, limit: 3, owner: true, encode: true, after: "s t"},
		{ListQuery: guarded.ListQuery{Bucket: "data"}, v2: true, limit: 3, token: "tok"},
		{ListQuery: guarded.ListQuery{Bucket: "data", Delimiter: "/"}, limit: 3, after: "m"},
	} {
		for _, more := range []bool{false, true} {
			x := newXML()
			x.list(&q, entries, "next", more)
			out.WriteString(strings.ReplaceAll(x.buf.String(), "><", ">\n<") + "\n\n")
			x.free()
		}
	}
	golden(t, "lists.txt", out.String())
}

// A physical object that is gone is an alarm, never a client's 404 (F6).
func TestCopyOfLostBytes(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34")
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs/a/k"), Body: body("x")}); err != nil {
		t.Fatal(err)
	}
	for _, o := range b.fake.objects {
		if err := b.store.DeleteObject(t.Context(), "data", o.physical); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("plain"), Key: aws.String("k"), CopySource: aws.String("data/jobs/a/k")})
	wantCode(t, err, "InternalError")
	if len(b.events) != 1 || b.events[0].Kind != "alarm" {
		t.Errorf("events %+v", b.events)
	}
}

// Programs compare these messages.
func TestErrorsInTheWordsOfS3(t *testing.T) {
	t.Parallel()
	rq := &request{}
	for err, want := range map[error]string{
		ErrNoSuchBucket:              "The specified bucket does not exist",
		object.ErrNoSuchKey:          "The specified key does not exist.",
		object.ErrPreconditionFailed: "At least one of the pre-conditions you specified did not hold",
		object.ErrInvalidRange:       "The requested range is not satisfiable",
	} {
		if got := rq.answerTo(err).message; got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// Every error of the rooms below has its answer; none falls through to 500.
func TestErrorsOfTheRoomsBelow(t *testing.T) {
	t.Parallel()
	rq := &request{}
	for err, want := range map[error]string{
		guarded.ErrStore:            "503 ServiceUnavailable",
		guarded.ErrGuardGone:        "503 SlowDown",
		guarded.ErrOtherToken:       "400 InvalidFencingToken",
		guarded.ErrPartsUnknown:     "501 NotImplemented",
		guarded.ErrTooLarge:         "400 EntityTooLarge",
		guarded.ErrLostBytes:        "500 InternalError",
		guarded.ErrDamaged:          "500 InternalError",
		object.ErrNoSuchUpload:      "404 NoSuchUpload",
		object.ErrInvalidPart:       "400 InvalidPart",
		object.ErrInvalidPartOrder:  "400 InvalidPartOrder",
		object.ErrPartTooSmall:      "400 EntityTooSmall",
		object.ErrInvalidPartNumber: "416 InvalidPartNumber",
		object.ErrBadDigest:         "400 BadDigest",
		object.ErrChecksumType:      "400 InvalidRequest",
		object.ErrObjectSize:        "400 InvalidRequest",
		ErrNoSuchBucket:             "404 NoSuchBucket",
		&upstream.Error{Outcome: upstream.NotSent, Err: errors.New("no route")}: "503 ServiceUnavailable",
	} {
		e := rq.answerTo(errors.Join(errors.New("while writing"), err))
		if got := strconv.Itoa(e.status) + " " + e.code; got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// What the store says of an upload is read, and can be read, whatever its key.
func TestAnswersAboutOddKeys(t *testing.T) {
	t.Parallel()
	for _, echo := range []string{"k&#x1b;&#x1;", "k\x1b\x01", "k\uFFFD\uFFFD"} {
		rq := &request{
			s: &Server{}, r: httptest.NewRequest(http.MethodPost, "/", nil), op: &operation{name: "CreateMultipartUpload", level: objectLevel},
			bucket: "data", key: "k\x1b\x01", signed: &sigv4.Signed{},
		}
		out, err := rq.translate([]byte("<InitiateMultipartUploadResult><Bucket>real</Bucket><Key>" + echo + "</Key><UploadId>7</UploadId></InitiateMultipartUploadResult>"))
		if want := "<InitiateMultipartUploadResult><Bucket>data</Bucket><Key>k\uFFFD\uFFFD</Key><UploadId>7</UploadId></InitiateMultipartUploadResult>"; err != nil || string(out) != want {
			t.Errorf("%q: %q, %v", echo, out, err)
		}
	}
}
