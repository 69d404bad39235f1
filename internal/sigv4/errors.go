package sigv4

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is the S3 name of an error, as clients find it in <Code>.
// Source: Amazon S3 API Reference, "Error responses".
type Code string

// The codes this package answers with. Their statuses stand in one table below.
const (
	CodeAccessDenied                 Code = "AccessDenied"
	CodeAuthorizationHeaderMalformed Code = "AuthorizationHeaderMalformed"
	CodeAuthorizationQueryError      Code = "AuthorizationQueryParametersError"
	CodeBadDigest                    Code = "BadDigest"
	CodeContentSHA256Mismatch        Code = "XAmzContentSHA256Mismatch"
	CodeEntityTooLarge               Code = "EntityTooLarge"
	CodeExpiredToken                 Code = "ExpiredToken"
	CodeIncompleteBody               Code = "IncompleteBody"
	CodeInvalidAccessKeyID           Code = "InvalidAccessKeyId"
	CodeInvalidArgument              Code = "InvalidArgument"
	CodeInvalidDigest                Code = "InvalidDigest"
	CodeInvalidRequest               Code = "InvalidRequest"
	CodeInvalidToken                 Code = "InvalidToken"
	CodeInvalidURI                   Code = "InvalidURI"
	CodeMalformedTrailer             Code = "MalformedTrailerError"
	CodeMissingContentLength         Code = "MissingContentLength"
	CodeNotImplemented               Code = "NotImplemented"
	CodeRequestTimeout               Code = "RequestTimeout"
	CodeRequestTimeTooSkewed         Code = "RequestTimeTooSkewed"
	CodeServiceUnavailable           Code = "ServiceUnavailable"
	CodeSignatureDoesNotMatch        Code = "SignatureDoesNotMatch"
)

// statuses is the whole taxonomy. An expired presigned URL is AccessDenied with
// the message "Request has expired", as S3 says it.
var statuses = map[Code]int{
	CodeAccessDenied:                 http.StatusForbidden,
	CodeAuthorizationHeaderMalformed: http.StatusBadRequest,
	CodeAuthorizationQueryError:      http.StatusBadRequest,
	CodeBadDigest:                    http.StatusBadRequest,
	CodeContentSHA256Mismatch:        http.StatusBadRequest,
	CodeEntityTooLarge:               http.StatusBadRequest,
	CodeExpiredToken:                 http.StatusBadRequest,
	CodeIncompleteBody:               http.StatusBadRequest,
	CodeInvalidAccessKeyID:           http.StatusForbidden,
	CodeInvalidArgument:              http.StatusBadRequest,
	CodeInvalidDigest:                http.StatusBadRequest,
	CodeInvalidRequest:               http.StatusBadRequest,
	CodeInvalidToken:                 http.StatusBadRequest,
	CodeInvalidURI:                   http.StatusBadRequest,
	CodeMalformedTrailer:             http.StatusBadRequest,
	CodeMissingContentLength:         http.StatusLengthRequired,
	CodeNotImplemented:               http.StatusNotImplemented,
	CodeRequestTimeout:               http.StatusBadRequest,
	CodeRequestTimeTooSkewed:         http.StatusForbidden,
	CodeServiceUnavailable:           http.StatusServiceUnavailable,
	CodeSignatureDoesNotMatch:        http.StatusForbidden,
}

// Error is every refusal of this package. Act on Code, never on Message.
type Error struct {
	Code    Code
	Message string // for the person behind the client: what, where, remedy

	// Region is the region this server expects, set where the request named
	// another one: clients re-sign for the region they are told.
	Region string

	// CanonicalRequest and StringToSign are what this server computed, set when
	// the signature of a request did not match. They hold no secret; S3 shows
	// them to clients too.
	CanonicalRequest string
	StringToSign     string

	Err error // the cause, may be nil; not for clients
}

// Status returns the HTTP status that goes with e.Code.
func (e *Error) Status() int {
	if s, ok := statuses[e.Code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error implements error. It includes the cause, which clients should not see.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("sigv4: %s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("sigv4: %s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, or "".
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

var (
	// ErrAnonymous is returned by Verify for a request that offers no signature.
	// The caller decides what nobody may do.
	ErrAnonymous = errors.New("sigv4: request is not signed")

	// ErrUnknownKey is returned by a CredentialSource that knows no such access
	// key; the client is told InvalidAccessKeyId and must not retry.
	ErrUnknownKey = errors.New("sigv4: unknown access key")

	// ErrBadSessionToken is returned by a CredentialSource for a session token
	// that is missing where one is needed, given where none belongs, forged, or
	// of another access key; the client is told InvalidToken.
	ErrBadSessionToken = errors.New("sigv4: bad session token")

	// ErrExpiredSession is returned by a CredentialSource for temporary
	// credentials past their end; the client is told ExpiredToken and fetches
	// new ones.
	ErrExpiredSession = errors.New("sigv4: session has expired")
)

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// lookupError turns what a CredentialSource said into what the client is told.
func lookupError(accessKey string, err error) *Error {
	e := &Error{Err: err}
	switch {
	case errors.Is(err, ErrUnknownKey):
		e.Code = CodeInvalidAccessKeyID
		e.Message = fmt.Sprintf("The access key %q does not exist here. Check the credentials and the endpoint.", accessKey)
	case errors.Is(err, ErrBadSessionToken):
		e.Code = CodeInvalidToken
		e.Message = fmt.Sprintf("The session token sent with access key %q is missing, malformed or not of that key. Fetch new credentials.", accessKey)
	case errors.Is(err, ErrExpiredSession):
		e.Code = CodeExpiredToken
		e.Message = fmt.Sprintf("The session of access key %q has ended. Fetch new credentials.", accessKey)
	default:
		e.Code = CodeServiceUnavailable
		e.Message = "The credential could not be checked. Try again."
	}
	return e
}
