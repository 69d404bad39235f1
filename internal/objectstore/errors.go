package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	xml "github.com/minio/xxml"
	"github.com/rclone/gofakes3"
	sqlite3 "modernc.org/sqlite/lib"
)

// apiError is a refusal with its S3 error code, as listed in
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
type apiError struct {
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// forFront puts an error into the form in which the gofakes3 front knows it;
// the front turns every other form into an internal error.
func forFront(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apiError](err); ok {
		return gofakes3.ErrorMessage(gofakes3.ErrorCode(e.code), e.message)
	}
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrBroken) && !errors.Is(err, errUndecided) {
		return gofakes3.ErrorMessage(gofakes3.ErrSlowDown, "The object store takes no writes at present; nothing was written")
	}
	if isFull(err) && !errors.Is(err, ErrBroken) {
		return gofakes3.ErrorMessage(codeFull, errFull.message)
	}
	return err
}

// fail makes an apiError. The code must stand in statuses.
func fail(code, format string, args ...any) error {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.code == code
}

func noSuchBucket(name string) error {
	return fail("NoSuchBucket", "The bucket %q does not exist", name)
}

func noSuchKey() error { return fail("NoSuchKey", "The specified key does not exist") }

func noSuchUpload() error {
	return fail("NoSuchUpload", "The specified upload does not exist: it was completed or aborted, or never created for this key")
}

var (
	errPrecondition = fail("PreconditionFailed", "At least one of the preconditions you specified did not hold")
	errNotModified  = fail("NotModified", "Not modified")
)

// codeFull is no code of S3, which knows no full disk; MinIO has the same status
// under another name.
const codeFull = "StorageFull"

var errFull = &apiError{codeFull, "The disk of the object store is full; nothing was written. Free space there, then send it again"}

// isFull reports that the disk had no room for a blob, or for the rows of one.
func isFull(err error) bool {
	code, ok := sqliteCode(err)
	return ok && code == sqlite3.SQLITE_FULL || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// statuses holds every error code that this package answers by itself.
var statuses = map[string]int{
	"AuthorizationQueryParametersError": http.StatusBadRequest,
	"BadDigest":                         http.StatusBadRequest,
	"BucketAlreadyOwnedByYou":           http.StatusConflict,
	"BucketNotEmpty":                    http.StatusConflict,
	"EntityTooLarge":                    http.StatusBadRequest,
	"EntityTooSmall":                    http.StatusBadRequest,
	"IncompleteBody":                    http.StatusBadRequest,
	"InternalError":                     http.StatusInternalServerError,
	"InvalidArgument":                   http.StatusBadRequest,
	"InvalidBucketName":                 http.StatusBadRequest,
	"InvalidDigest":                     http.StatusBadRequest,
	"InvalidPart":                       http.StatusBadRequest,
	"InvalidPartOrder":                  http.StatusBadRequest,
	"InvalidPartNumber":                 http.StatusRequestedRangeNotSatisfiable,
	"InvalidRange":                      http.StatusRequestedRangeNotSatisfiable,
	"InvalidRequest":                    http.StatusBadRequest,
	"InvalidTag":                        http.StatusBadRequest,
	"InvalidURI":                        http.StatusBadRequest,
	"KeyTooLongError":                   http.StatusBadRequest,
	"MalformedXML":                      http.StatusBadRequest,
	"MetadataTooLarge":                  http.StatusBadRequest,
	"MethodNotAllowed":                  http.StatusMethodNotAllowed,
	"MissingContentLength":              http.StatusLengthRequired,
	"NoSuchBucket":                      http.StatusNotFound,
	"NoSuchKey":                         http.StatusNotFound,
	"NoSuchUpload":                      http.StatusNotFound,
	"NoSuchVersion":                     http.StatusNotFound,
	"NotImplemented":                    http.StatusNotImplemented,
	"NotModified":                       http.StatusNotModified,
	"PreconditionFailed":                http.StatusPreconditionFailed,
	"RequestTimeout":                    http.StatusBadRequest,
	"ServiceUnavailable":                http.StatusServiceUnavailable,
	"SignatureDoesNotMatch":             http.StatusForbidden,
	"SlowDown":                          http.StatusServiceUnavailable,
	codeFull:                            http.StatusInsufficientStorage,
	"XAmzContentSHA256Mismatch":         http.StatusBadRequest,
}

type errorBody struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

// asAPIError turns any error into what the client is told. What is not an
// apiError is a fault of ours and told without its inner text.
func (h *handler) asAPIError(r *http.Request, err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{"RequestTimeout", "The request ended before it was complete; nothing was written"}
	case errors.Is(err, ErrClosed):
		return &apiError{"ServiceUnavailable", "The object store is shutting down; nothing was written"}
	case errors.Is(err, errUndecided):
		h.s.log.Error("commit failed, its outcome is unknown", "method", r.Method, "path", r.URL.Path, "err", err)
		return &apiError{"InternalError", "The commit failed and may or may not have taken effect"}
	case isFull(err) && !errors.Is(err, ErrBroken):
		h.s.log.Error("the disk is full", "method", r.Method, "path", r.URL.Path, "err", err)
		return errFull
	case errors.Is(err, ErrBroken):
		return &apiError{"ServiceUnavailable", "The object store stopped writing after a disk error; nothing was written; restart it"}
	}
	h.s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	return &apiError{"InternalError", "The object store met an internal error; see its log"}
}

func (h *handler) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := h.asAPIError(r, err)
	status, ok := statuses[e.code]
	if !ok {
		status = http.StatusInternalServerError
	}
	if status == http.StatusNotModified || r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	writeXML(w, status, errorBody{Code: e.code, Message: e.message, Resource: r.URL.Path, RequestID: w.Header().Get("X-Amz-Request-Id")})
}

// writeXML uses xxml: keys may hold characters that XML 1.0 has no form for,
// which encoding/xml would replace and so name another key.
func writeXML(w http.ResponseWriter, status int, body any) {
	text, err := xml.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text = append([]byte(xml.Header), text...)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(status)
	w.Write(text) //nolint:errcheck // the client is gone, nobody is left to tell
}
