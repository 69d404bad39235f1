package s3api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// byMethod finds the rows that a request can be, by level and method.
var byMethod = func() (index [3]map[string][]*operation) {
	for i := range index {
		index[i] = map[string][]*operation{}
	}
	for i := range operations {
		o := &operations[i]
		index[o.level][o.method] = append(index[o.level][o.method], o)
	}
	return index
}()

// maxParams bounds the query parameters of one request; no operation has half
// as many, presigned ones included.
const maxParams = 64

// route finds the one row of a request, or refuses it. It is a pure function of
// what it is given.
func route(method string, l level, params []sigv4.Param, copies bool) (*operation, error) {
	if len(params) > maxParams {
		return nil, invalid("the query has %d parameters; at most %d are accepted", len(params), maxParams)
	}
	for _, o := range byMethod[l][method] {
		if !o.matches(params, copies) {
			continue
		}
		// A signature does not bind the order of repeated parameters.
		for i, p := range params {
			for _, q := range params[:i] {
				if p.Name == q.Name {
					return nil, invalid("the query parameter %s is given twice", shorten(p.Name))
				}
			}
		}
		return o, nil
	}
	return nil, unroutable(method, l, params, copies)
}

// matches reports whether all selecting parameters are there and no parameter
// is one that the operation does not take.
func (o *operation) matches(params []sigv4.Param, copies bool) bool {
	if copies != o.copies {
		return false
	}
	selected := 0
	for i := range params {
		p := &params[i]
		switch {
		case o.selectedBy(p):
			selected++
		case !slices.Contains(o.params, p.Name) && !tolerated(p.Name):
			return false
		}
	}
	return selected == len(o.selects)
}

func (o *operation) selectedBy(p *sigv4.Param) bool {
	for _, want := range o.selects {
		if want == p.Name {
			return true
		}
		if len(want) > len(p.Name) && want[len(p.Name)] == '=' && want[:len(p.Name)] == p.Name && want[len(p.Name)+1:] == p.Value {
			return true
		}
	}
	return false
}

// valueOf is the value with which a parameter goes upstream. A selector without
// a value of its own has none there either: we look at its name, but there are
// stores that take "?tagging=x" for a request without it.
func (o *operation) valueOf(p *sigv4.Param) string {
	switch p.Name {
	case "partNumber", "uploadId", "id":
		return p.Value
	}
	if slices.Contains(o.selects, p.Name) {
		return ""
	}
	return p.Value
}

// tolerated names the parameters that any request may have: those of a
// signature, those of the fence, the x-id that SDKs add to tell operations
// apart in logs, and headers that SDKs move into presigned URLs.
func tolerated(name string) bool {
	switch name {
	case "x-id",
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders":
		return true
	}
	if len(name) < len("x-amz-") || !strings.EqualFold(name[:2], "x-") {
		return false
	}
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case headerToken, headerScope, "X-Amz-Content-Sha256", "X-Amz-User-Agent", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer":
		return true
	}
	return movable(canonical)
}

// movable reports whether a header may stand in the query of a presigned URL.
// The source of a copy may not: the table tells copies by the header.
func movable(canonical string) bool {
	return strings.HasPrefix(canonical, "X-Amz-") && !strings.HasPrefix(canonical, "X-Amz-Copy-Source") && upstream.Forwarded(canonical)
}

// unroutable says which part of a request is not known here.
func unroutable(method string, l level, params []sigv4.Param, copies bool) error {
	what := method
	for _, p := range params {
		if !tolerated(p.Name) {
			what += " ?" + shorten(p.Name)
			break
		}
	}
	if copies {
		what += " with x-amz-copy-source"
	}
	return notImplemented("%s on %s is not implemented here", what, l)
}
