package upstream

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Outcome says what is known about the effect of a mutation. The zero value
// is Unknown: what nobody has classified may have happened.
type Outcome uint8

const (
	// Unknown says that the mutation may have taken effect, may do so later, or never.
	Unknown Outcome = iota

	// Took says that the store answered 2xx with a whole body and no <Error> in it.
	Took

	// Refused says that the store itself answered that it did not do it.
	Refused

	// NotSent says that no byte of the request left this process.
	NotSent
)

func (o Outcome) String() string {
	switch o {
	case Took:
		return "took"
	case Refused:
		return "refused"
	case NotSent:
		return "not sent"
	}
	return "unknown"
}

// OutcomeOf returns the outcome that an error of this package stands for; Took
// for nil, Unknown for a foreign error.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Took
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return Unknown
}

// Error is every failure of a request. Of a read, Outcome says in the same
// words whether the store itself refused it.
type Error struct {
	Upstream string // name of the store
	Request  string // method, bucket and key

	Status    int    // of the answer; 0 if there was none
	Code      string // S3 error code; for an answer without a body the one its status stands for
	Message   string // the store's
	RequestID string // the store's

	Header http.Header // of the answer; nil if there was none
	Body   []byte      // of the answer, at most 64 KiB

	Outcome Outcome
	Err     error // cause, if the failure is not the store's answer
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstream %s: %s: ", e.Upstream, e.Request)
	switch {
	case e.Err != nil && e.Status != 0:
		fmt.Fprintf(&b, "status %d: %v", e.Status, e.Err)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	case e.Code != "":
		fmt.Fprintf(&b, "status %d %s", e.Status, e.Code)
		if e.Message != "" {
			fmt.Fprintf(&b, ": %s", e.Message)
		}
	default:
		fmt.Fprintf(&b, "status %d without an S3 error", e.Status)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request id %s)", e.RequestID)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// HasCode reports whether err is an answer of the store with one of the codes.
func HasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Err != nil {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// NotFound reports whether err is the store's own answer that there is no such
// key. A missing bucket is something else, except in answers to HEAD, which
// cannot tell.
func NotFound(err error) bool { return HasCode(err, "NoSuchKey", "NotFound") }

var (
	// ErrCut says that the answer ended early, was longer than any answer of
	// its kind, or was not what S3 answers.
	ErrCut = errors.New("the answer is not a whole S3 answer")

	// ErrUnframed says that the answer to a read has neither a length nor chunks: it
	// would end where its connection does, and cut short look whole.
	ErrUnframed = errors.New("the answer does not say where it ends")

	// ErrEarly says that the store answered 2xx before it had the whole body.
	ErrEarly = errors.New("the store answered before it had the whole body")
)

const (
	maxErrorBody  = 64 << 10
	maxAnswerBody = 16 << 20 // 1,000 results of a batch delete with keys of 1,024 escaped bytes
)

type errorXML struct {
	XMLName   xml.Name
	Code      string `xml:"Code"`
	Message   string `xml:"Message"`
	RequestID string `xml:"RequestId"`
}

// parseError understands an S3 error document.
func parseError(body []byte) (errorXML, bool) {
	var e errorXML
	if err := xml.Unmarshal(Readable(body), &e); err != nil || e.XMLName.Local != "Error" || e.Code == "" {
		return errorXML{}, false
	}
	return e, true
}

// bodyless are the codes of answers that have no body by nature: to HEAD, and 304.
var bodyless = map[int]string{
	http.StatusNotModified:                  "NotModified",
	http.StatusBadRequest:                   "BadRequest",
	http.StatusForbidden:                    "Forbidden",
	http.StatusNotFound:                     "NotFound",
	http.StatusMethodNotAllowed:             "MethodNotAllowed",
	http.StatusPreconditionFailed:           "PreconditionFailed",
	http.StatusRequestedRangeNotSatisfiable: "InvalidRange",
}

// failure classifies a non-2xx answer. cut is what went wrong reading body.
func (e *Error) failure(method string, body []byte, cut error) *Error {
	e.Body = body
	e.RequestID = e.Header.Get("X-Amz-Request-Id")
	s3, own := parseError(body)
	if own {
		e.Code, e.Message = s3.Code, s3.Message
		if s3.RequestID != "" {
			e.RequestID = s3.RequestID
		}
	} else if len(body) == 0 && (method == http.MethodHead || e.Status == http.StatusNotModified) {
		e.Code = bodyless[e.Status]
		own = e.Code != ""
	}
	if cut != nil {
		e.Err = fmt.Errorf("%w: %w", ErrCut, cut)
	} else if own && (e.Status/100 == 4 || e.Status == http.StatusNotModified) {
		e.Outcome = Refused
	}
	return e
}

// Codes that an <Error> in a 2xx answer may carry and that say for sure that
// nothing was done: the request was judged and found wanting. All others,
// InternalError first, leave it open.
var refusals = map[string]bool{
	"AccessDenied": true, "BadDigest": true, "EntityTooLarge": true, "EntityTooSmall": true, "InvalidArgument": true,
	"InvalidPart": true, "InvalidPartOrder": true, "InvalidRequest": true, "MalformedXML": true, "NoSuchBucket": true,
	"NoSuchKey": true, "NoSuchUpload": true, "PreconditionFailed": true,
}

// embedded finds an <Error> in the body of a 2xx answer, or a body that is cut
// though its framing does not tell. White space before the document is what
// stores send while they work.
func (e *Error) embedded(body []byte, framed bool) *Error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '<' {
		return nil
	}
	d := xml.NewDecoder(bytes.NewReader(Readable(body)))
	isError := false
	for root := true; ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			e.Err = fmt.Errorf("%w: %w", ErrCut, err)
			return e
		}
		if start, ok := tok.(xml.StartElement); ok && root {
			root = false
			isError = start.Name.Local == "Error"
			if framed || isError {
				break
			}
		}
	}
	if !isError {
		return nil
	}
	s3, ok := parseError(body)
	if !ok {
		e.Err = fmt.Errorf("%w: an <Error> without a code", ErrCut)
		return e
	}
	e.Body, e.Code, e.Message, e.RequestID = body, s3.Code, s3.Message, s3.RequestID
	if refusals[s3.Code] {
		e.Outcome = Refused
	}
	return e
}
