package s3api

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// This file is the one place where an error becomes a status.

// The codes that are ours alone. Those of S3 stand where they are used.
const (
	codeStale         = events.CodeStale       // 412: stop writing; 403 where the request is itself conditional
	codeMissing       = "MissingFencingToken"  // 403: send a token
	codeInvalidToken  = "InvalidFencingToken"  // 400: the request is wrong and stays wrong
	codeInvalidName   = "InvalidObjectName"    // 400: choose another key
	codeUnavailable   = "ServiceUnavailable"   // 503: nothing happened; send it again
	codeSlowDown      = "SlowDown"             // 503: nothing happened; send it again later
	codeUnknown       = "OutcomeUnknown"       // 504: look before you send it again
	codeReused        = "IdempotencyKeyReused" // 422: choose a new key for a new request
	codeBucketGuarded = "BucketGuarded"        // 409: remove the guard first
	codeUnanswered    = "ClientClosedRequest"  // never sent: the client went away
	statusUnanswered  = 499                    // the same, for records
	retryAfter        = 1                      // seconds; SDKs back off by themselves
)

// ErrNoSuchBucket is what [Buckets] answers for a bucket that it does not know.
// The client is told 404 NoSuchBucket.
var ErrNoSuchBucket = errors.New("the specified bucket does not exist")

// apiError is an answer that is no success.
type apiError struct {
	status  int
	code    string
	message string
	// scope, token and highest are shown where the fence had its say.
	scope          fence.Scope
	token, highest fence.Token
	// retry asks for a Retry-After header.
	retry bool
	// fields are further elements of the body, name then value; header are
	// further headers.
	fields []string
	header http.Header
	// cause is for the log only.
	cause error
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.message + ": " + e.cause.Error()
	}
	return e.code + ": " + e.message
}

func (e *apiError) Unwrap() error { return e.cause }

func fail(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...), retry: status == http.StatusServiceUnavailable}
}

func invalid(format string, args ...any) *apiError {
	return fail(http.StatusBadRequest, "InvalidArgument", format, args...)
}

func notImplemented(format string, args ...any) *apiError {
	return fail(http.StatusNotImplemented, "NotImplemented", format, args...)
}

func badToken(format string, args ...any) *apiError {
	return fail(http.StatusBadRequest, codeInvalidToken, format, args...)
}

func denied(format string, args ...any) *apiError {
	return fail(http.StatusForbidden, "AccessDenied", format, args...)
}

// objectErrors are the answers that objects give. Where Amazon S3 has words of its
// own the answer has them to the letter, without a full stop where it has none:
// programs compare them (minio-go's tests do). Other errors speak for themselves.
var objectErrors = []struct {
	err     error
	status  int
	code    string
	message string
}{
	{object.ErrNoSuchKey, 404, "NoSuchKey", "The specified key does not exist."},
	{object.ErrPreconditionFailed, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"},
	{object.ErrNotModified, 304, "NotModified", ""},
	{object.ErrConflict, 409, "ConditionalRequestConflict", ""},
	{object.ErrNoSuchUpload, 404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."},
	{object.ErrInvalidPart, 400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."},
	{object.ErrInvalidPartOrder, 400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."},
	{object.ErrPartTooSmall, 400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"},
	{object.ErrInvalidRange, 416, "InvalidRange", "The requested range is not satisfiable"},
	{object.ErrInvalidPartNumber, 416, "InvalidPartNumber", "The requested partnumber is not satisfiable"},
	{object.ErrBadDigest, 400, "BadDigest", ""},
	{object.ErrSourceRange, 400, "InvalidArgument", ""},
	{ErrNoSuchBucket, 404, "NoSuchBucket", "The specified bucket does not exist"},
	{auth.ErrUnknownKey, 403, "InvalidAccessKeyId", ""},
	{auth.ErrBadToken, 400, "InvalidToken", ""},
	{auth.ErrExpired, 400, "ExpiredToken", ""},
}

// answerTo turns an error of a handler into what the client is told. The order
// of the cases matters: the first that knows the error speaks.
func (rq *request) answerTo(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if r, ok := errors.AsType[*fence.Refusal](err); ok {
		return rq.refusal(r)
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && rq.open(e) {
		return rq.store(e, err)
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status == http.StatusNotImplemented && e.Err == nil && rq.fenced {
		// What the store cannot do it cannot do the next time either. It is about
		// a physical object, of which nothing is committed.
		return &apiError{status: e.Status, code: "NotImplemented", message: "The object store: " + rq.withoutPhysical(e.Message), cause: err}
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return signature(e)
	}
	for _, o := range objectErrors {
		if errors.Is(err, o.err) {
			return &apiError{status: o.status, code: o.code, message: cmp.Or(o.message, sentence(o.err.Error())), cause: err}
		}
	}
	switch {
	case errors.Is(err, fence.ErrBadKey):
		return fail(http.StatusBadRequest, codeInvalidName, "%s", sentence(err.Error()))
	case errors.Is(err, sigv4.ErrAnonymous):
		return denied("Anonymous requests are not answered here. Sign the request with AWS4-HMAC-SHA256.")
	case errors.Is(err, guarded.ErrLostBytes), errors.Is(err, state.ErrMarkFalls):
		return internal(err)
	case errors.Is(err, idempotency.ErrReused):
		e := fail(http.StatusUnprocessableEntity, codeReused, "%s", sentence(err.Error()))
		e.cause = err
		return e
	case errors.Is(err, idempotency.ErrBadKey):
		return invalid("%v", err)
	case errors.Is(err, guarded.ErrOtherToken):
		e := badToken("%s", sentence(err.Error()))
		e.scope, e.token = rq.side.Scope, rq.side.Request.Token
		return e
	case errors.Is(err, object.ErrChecksumType), errors.Is(err, object.ErrObjectSize):
		return fail(http.StatusBadRequest, "InvalidRequest", "%s", sentence(err.Error()))
	case errors.Is(err, guarded.ErrPartsUnknown):
		return notImplemented("%s", sentence(err.Error()))
	case errors.Is(err, guarded.ErrTooLarge):
		return fail(http.StatusBadRequest, "EntityTooLarge", "%s", sentence(err.Error()))
	case errors.Is(err, state.ErrUnknown) && errors.Is(err, state.ErrDiskFull):
		return &apiError{status: 504, code: codeUnknown, cause: err,
			message: "The state has no room left on its disk, and the answer to the commit was lost: it may or may not have taken effect. Free space there, and look before you send it again."}
	case errors.Is(err, state.ErrUnknown):
		return &apiError{status: 504, code: codeUnknown, cause: err,
			message: "The answer to the commit was lost: it may or may not have taken effect. Look before you send it again."}
	case errors.Is(err, guarded.ErrUndecided):
		return &apiError{status: 504, code: codeUnknown, cause: err,
			message: "Another request is completing this upload and may take effect yet. Send it again, or look before you do; aborting the upload decides it."}
	case errors.Is(err, guarded.ErrStore) && noRoom(err):
		return unavailable(codeUnavailable, "The object store has no room left; nothing was done. Free space there, then send it again.", err)
	case errors.Is(err, guarded.ErrStore):
		return unavailable(codeUnavailable, "The object store did not answer as it should; nothing was done. Send it again.", err)
	case errors.Is(err, state.ErrDiskFull):
		return unavailable(codeUnavailable, "The state has no room left on its disk, so nothing was done. Free space there, then send it again.", err)
	case errors.Is(err, state.ErrNoConnection):
		return unavailable(codeUnavailable, "The state database takes no more connections, so nothing was done. End some of its other clients' or raise its max_connections, then send it again.", err)
	case errors.Is(err, state.ErrUnavailable), errors.Is(err, guards.ErrLeaseOver), errors.Is(err, guards.ErrWentBack), errors.Is(err, state.ErrSchema):
		return unavailable(codeUnavailable, "The state cannot be asked, so nothing was done. Send it again.", err)
	case errors.Is(err, state.ErrBusy):
		return unavailable(codeSlowDown, "The scope or the object is busy; nothing was done. Send it again.", err)
	case errors.Is(err, guards.ErrGuarded), errors.Is(err, guards.ErrCut), errors.Is(err, guarded.ErrGuardGone):
		return unavailable(codeSlowDown, "The guards of this bucket are being changed. Send it again.", err)
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return rq.store(e, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return unavailable(codeSlowDown, "The request took too long. Send it again.", err)
	}
	if errors.Is(err, errStrange) {
		return rq.store(&upstream.Error{}, err)
	}
	return internal(err)
}

// noRoom reports that the store has no room for what it was sent: MinIO and the
// embedded store say so with 507, Ceph by a quota.
func noRoom(err error) bool {
	e, ok := errors.AsType[*upstream.Error](err)
	return ok && (e.Status == http.StatusInsufficientStorage || e.Code == "QuotaExceeded")
}

// open reports whether a mutation outside of every guard may have taken effect,
// so that no cause which the error wraps may speak for it: a flight that was cut
// off had left, and a store that answered 2xx took something, however false the
// body. A body that broke off before any answer is its client's fault, and short
// of its Content-Length at the store.
func (rq *request) open(e *upstream.Error) bool {
	if e.Outcome != upstream.Unknown || rq.op == nil || !rq.op.mutates() || rq.fenced {
		return false
	}
	_, client := errors.AsType[*sigv4.Error](e.Err)
	return e.Status != 0 || !client
}

func internal(cause error) *apiError {
	return &apiError{status: 500, code: "InternalError", cause: cause,
		message: "We encountered an internal error; the request id finds it in the log."}
}

func unavailable(code, message string, cause error) *apiError {
	return &apiError{status: 503, code: code, message: message, retry: true, cause: cause}
}

// refusal is the table of the fence's verdicts. Statuses were chosen by what
// clients do with them: none of these is sent again by an SDK, but for the 503.
func (rq *request) refusal(r *fence.Refusal) *apiError {
	e := &apiError{message: r.Error(), scope: r.Scope, token: r.Token, highest: r.Mark.Token, cause: r}
	switch r.Verdict {
	case fence.Stale:
		e.status, e.code = 412, codeStale
		if rq.conditional() {
			// Whoever swaps by If-Match reads 412 as a lost race and tries again.
			e.status = 403
		}
	case fence.Missing:
		e.status, e.code = 403, codeMissing
	case fence.NotTaken, fence.NeverGranted, fence.Unnamed, fence.MayNotRaise, fence.TooFar, fence.OtherGeneration:
		e.status, e.code = 400, codeInvalidToken
		if c := rq.who.Carried; c != nil && c.Scope == r.Scope && r.Verdict == fence.OtherGeneration {
			e.message = fmt.Sprintf("%s was reset and is in generation %d; the credentials carry a token of generation %d. Fetch new credentials.", r.Scope, r.Mark.Current(), c.Generation)
		}
	case fence.NotActive:
		e.status, e.code, e.retry = 503, codeSlowDown, true
	default:
		e.status, e.code = 500, "InternalError"
	}
	return e
}

// conditional reports whether the request itself carries a condition that a 412
// would answer.
func (rq *request) conditional() bool {
	return len(rq.r.Header["If-Match"]) > 0 || len(rq.r.Header["If-None-Match"]) > 0
}

func signature(e *sigv4.Error) *apiError {
	out := &apiError{status: e.Status(), code: string(e.Code), message: e.Message, cause: e, retry: e.Status() == 503}
	if e.Region != "" {
		out.fields = []string{"Region", e.Region}
	}
	if e.CanonicalRequest != "" {
		out.fields = append(out.fields, "StringToSign", e.StringToSign, "CanonicalRequest", e.CanonicalRequest)
	}
	return out
}

// ourFault are the store's answers to what this proxy, not its client, did
// wrong. Redirects are of that kind, too.
var ourFault = map[string]bool{
	"InvalidAccessKeyId": true, "SignatureDoesNotMatch": true, "RequestTimeTooSkewed": true, "ExpiredToken": true, "InvalidToken": true,
	"AuthorizationHeaderMalformed": true, "AuthorizationQueryParametersError": true,
	"XAmzContentSHA256Mismatch": true,
}

// changed are the store's words for bytes that are not those of their digest.
var changed = map[string]bool{"BadDigest": true, "InvalidDigest": true, "XAmzContentChecksumMismatch": true}

// store says what an answer of the store, or the want of one, means.
//
// Outside of every guard the store's own words are handed on. In a scope the
// request that failed was one of ours, about a physical object: only what the
// client can mend is told, and nothing took effect.
func (rq *request) store(e *upstream.Error, cause error) *apiError {
	mutates := rq.op != nil && rq.op.mutates()
	judged := e.Outcome == upstream.Refused
	switch {
	case e.Outcome == upstream.NotSent:
		return unavailable(codeUnavailable, "The object store cannot be reached; nothing was done. Send it again.", cause)
	case e.Status/100 == 3 && e.Status != http.StatusNotModified,
		judged && (ourFault[e.Code] || e.Code == "AccessDenied" && strings.Contains(e.Message, "expired")):
		return unavailable(codeUnavailable, "The object store did not accept the proxy's own signature; nothing was done. The operator finds the cause in the log.", cause)
	case judged && changed[e.Code] && rq.body != nil && rq.body.Verified() && rq.op.name != "CompleteMultipartUpload":
		// The client's body was as it said; a Complete's digest is of other bytes.
		return unavailable(codeUnavailable, "The bytes were changed on their way from this proxy to the object store, which refused them; nothing was done. Send it again.", cause)
	case rq.fenced && e.Status == http.StatusNotImplemented && e.Code == "NotImplemented",
		rq.fenced && judged && e.Status/100 == 4 && e.Status != http.StatusNotFound && e.Status != http.StatusForbidden,
		!rq.fenced && e.Status >= 300 && e.Code != "" && (e.Err == nil || !mutates):
		out := &apiError{status: e.Status, code: e.Code, message: rq.withoutPhysical(e.Message), cause: cause, retry: e.Status == 503}
		out.header, out.fields = details(e, rq.fenced)
		for i, text := range out.fields {
			out.fields[i] = rq.withoutPhysical(text)
		}
		return out
	case !rq.fenced && judged:
		// An <Error> in a 200 that says for sure that nothing was done.
		return &apiError{status: 400, code: e.Code, message: rq.withoutPhysical(e.Message), cause: cause}
	case mutates && (!rq.fenced || rq.side.Guard != nil && rq.side.Guard.Writes == fence.InPlace):
		return &apiError{status: 504, code: codeUnknown, cause: cause,
			message: "The object store's answer never came: the request may or may not have taken effect. Look before you send it again."}
	}
	return unavailable(codeUnavailable, "The object store did not answer as it should. Send it again.", cause)
}

// physicalName finds a key of ours in a store's words, also as a URL has it.
var physicalName = regexp.MustCompile(regexp.QuoteMeta(strings.TrimSuffix(fence.Reserved, "/")) + `(?:(?:/|%2[Ff])[0-9A-Za-z_-]*)+`)

// withoutPhysical puts the client's key into what a store says of a physical object.
// Of a copy out of a scope it is the source that has a physical name, and the store
// is not repeated where it names that.
func (rq *request) withoutPhysical(s string) string {
	name := rq.key
	if !rq.fenced {
		name = "(the source)"
	}
	return physicalName.ReplaceAllLiteralString(s, name)
}

// errorElements are what S3 adds to the error documents that it makes of a client's
// own words, or of the object that they are about. What else a store writes there
// (its own access key, say, or what it signs) is not handed on.
// Source: Amazon S3 API Reference, "Error Responses", and what the stores send.
var errorElements = map[string]bool{
	"ActualObjectSize": true, "additionalMessage": true, "AllowedMethod": true, "ArgumentName": true, "ArgumentValue": true,
	"CalculatedDigest": true, "Condition": true, "Content-MD5": true, "DeleteMarker": true, "ETag": true, "ExpectedDigest": true,
	"Header": true, "MaxKeyLength": true, "MaxMessageLengthBytes": true, "MaxSizeAllowed": true, "Method": true, "MinSizeAllowed": true,
	"PartNumber": true, "ProposedSize": true, "RangeRequested": true, "ResourceType": true, "Size": true, "TagKey": true, "TagValue": true,
	"UploadId": true, "VersionId": true,
}

// details are the headers and further elements of an answer of the store that is
// no success: the ETag of a 304 or 412, the length of the object in a 416, the
// version of a delete marker in a 404. In a scope the object that the store speaks
// of is a physical one.
func details(e *upstream.Error, fenced bool) (h http.Header, elements []string) {
	h = http.Header{}
	if fenced {
		if v := e.Header["Content-Range"]; len(v) > 0 && e.Status == http.StatusRequestedRangeNotSatisfiable {
			h["Content-Range"] = v
		}
		return h, nil
	}
	for name, v := range e.Header {
		// The error document is ours, and so is what describes it.
		if relayedHeader(name) && (name == "Content-Range" || !strings.HasPrefix(name, "Content-") && name != "Accept-Ranges") {
			h[metaName(name)] = v
		}
	}
	var doc struct {
		Elements []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	if xml.Unmarshal(e.Body, &doc) == nil {
		for _, x := range doc.Elements {
			if errorElements[x.XMLName.Local] {
				elements = append(elements, x.XMLName.Local, x.Text)
			}
		}
	}
	return h, elements
}

// sentence makes one of an error's text.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }
