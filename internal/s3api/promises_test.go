package s3api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// promise is a row of the table of what an answer promises (F7): the errors that are
// answered so, and why that is true of each.
type promise struct {
	status int
	code   string // "" for each error's own
	errs   []named
	when   string // as people read it
	why    string
}

// named is an error as errors.go names it. where says what kind of request it ends:
// one in a scope, one outside of every guard, or either (empty).
type named struct {
	name  string
	err   error
	where string
}

func either(name string, err error) named { return named{name, err, ""} }

func verdict(name string, v fence.Verdict) named {
	return named{"fence." + name, &fence.Refusal{Verdict: v, Guard: &fence.Guard{}, Token: 1, Mark: fence.Mark{Token: 2}}, "scope"}
}

func stored(where string, status int, code string, o upstream.Outcome) named {
	return named{err: &upstream.Error{Status: status, Code: code, Outcome: o}, where: where}
}

var promises = []promise{
	{412, codeStale, []named{verdict("Stale", fence.Stale)}, "a newer holder has the lock",
		"judged in the transaction that would have committed, or before it; the mark never falls (F1), so no try under this token commits later. A Complete whose earlier try has committed is answered as that was"},
	{403, codeMissing, []named{verdict("Missing", fence.Missing)}, "no token in a scope that asks for one", "refused before anything is sent; the same request has no token the next time either"},
	{400, codeInvalidToken, []named{
		verdict("NotTaken", fence.NotTaken), verdict("NeverGranted", fence.NeverGranted), verdict("Unnamed", fence.Unnamed), verdict("MayNotRaise", fence.MayNotRaise),
		verdict("TooFar", fence.TooFar), verdict("OtherGeneration", fence.OtherGeneration), either("guarded.ErrOtherToken", guarded.ErrOtherToken),
	}, "a token that this scope, guard, generation or upload does not take", "judged like a stale one. The request was not admitted; a token that is granted later is another request's"},
	{400, "", []named{
		either("sigv4.Error", &sigv4.Error{Code: sigv4.CodeBadDigest}), either("object.ErrBadDigest", object.ErrBadDigest), either("object.ErrChecksumType", object.ErrChecksumType), either("object.ErrObjectSize", object.ErrObjectSize),
	}, "the body, or what the request says of it, is false", "what is false of a body is found before its end goes on, so the store has half an object's bytes at most, which it does not keep; in a scope nobody would read them"},
	{403, "", []named{
		either("sigv4.Error", &sigv4.Error{Code: sigv4.CodeSignatureDoesNotMatch}), either("sigv4.ErrAnonymous", sigv4.ErrAnonymous), either("auth.ErrUnknownKey", auth.ErrUnknownKey),
	}, "the signature", "refused before anything is sent"},
	{400, "", []named{
		either("auth.ErrBadToken", auth.ErrBadToken), either("auth.ErrExpired", auth.ErrExpired), either("fence.ErrBadKey", fence.ErrBadKey), either("idempotency.ErrBadKey", idempotency.ErrBadKey),
	}, "credentials, key, Idempotency-Key", "refused before anything is sent"},
	{422, codeReused, []named{either("idempotency.ErrReused", idempotency.ErrReused)}, "the Idempotency-Key is another request's", "decided in the transaction that would have committed, under the lock of the key's name; the name stays the other request's"},
	{412, "PreconditionFailed", []named{either("object.ErrPreconditionFailed", object.ErrPreconditionFailed)}, "a condition does not hold",
		"in a scope decided in the transaction that would have committed (F10). An earlier try whose answer was lost is another matter: see [the protocol](protocol.md#what-a-client-must-know)"},
	{404, "", []named{either("object.ErrNoSuchKey", object.ErrNoSuchKey), either("ErrNoSuchBucket", ErrNoSuchBucket)}, "what the request is about is not there", "looked up before, or in the transaction that would have committed"},
	{404, "NoSuchUpload", []named{either("object.ErrNoSuchUpload", object.ErrNoSuchUpload)}, "the upload does not exist, or was completed from another list",
		"the row is gone or completed from another list, and no try commits without it; or the store has neither the upload nor an object, and no try of any Complete has left for it. Where one has: 504"},
	{400, "", []named{
		either("object.ErrInvalidPart", object.ErrInvalidPart), either("object.ErrInvalidPartOrder", object.ErrInvalidPartOrder), either("object.ErrPartTooSmall", object.ErrPartTooSmall), either("object.ErrSourceRange", object.ErrSourceRange),
	}, "the list of parts, a part copy's range", "found before the list leaves for the store. A part that is missing although an earlier try had seen it is 504"},
	{409, "ConditionalRequestConflict", []named{either("object.ErrConflict", object.ErrConflict)}, "a copy's source was replaced while it was copied", "what was copied is under a name that is never committed"},
	{400, "EntityTooLarge", []named{either("guarded.ErrTooLarge", guarded.ErrTooLarge)}, "a body of unknown length grew too long", "its upload is aborted and was never committed"},
	{501, "NotImplemented", []named{either("guarded.ErrPartsUnknown", guarded.ErrPartsUnknown), stored("scope", 501, "NotImplemented", upstream.Unknown)}, "not done here, or not by the store", "refused before anything is sent; or the store refused the bytes of a physical object, which is never committed"},
	{416, "", []named{either("object.ErrInvalidRange", object.ErrInvalidRange), either("object.ErrInvalidPartNumber", object.ErrInvalidPartNumber)}, "a range that is not there", "a read"},
	{304, "NotModified", []named{either("object.ErrNotModified", object.ErrNotModified)}, "a conditional read found nothing newer", "a read"},
	{400, "EntityTooLarge", []named{stored("scope", 400, "EntityTooLarge", upstream.Refused)}, "what the store says of a physical object's bytes, and the client can mend", "the store refused them, and nothing is committed"},
	{409, "X", []named{stored("outside", 409, "X", upstream.Refused), stored("outside", 409, "X", upstream.Unknown)}, "outside: an error document of the store, with its status", "the store's own word; each request is sent to it once. So are its 500 and 503"},
	{400, "X", []named{stored("outside", 200, "X", upstream.Refused)}, "an error in a 200 of the store that says that nothing was done", "the store's own word"},
	{503, codeUnavailable, []named{
		either("guarded.ErrStore", guarded.ErrStore), stored("scope", 0, "", upstream.Unknown), stored("scope", 500, "InternalError", upstream.Unknown), stored("scope", 403, "AccessDenied", upstream.Refused), stored("scope", 404, "NoSuchKey", upstream.Refused),
	}, "in a scope: the store did not do its part", "whatever it did with a physical object, no row points there. Another try of the same Complete may take effect: sent again, it tells"},
	{503, codeUnavailable, []named{stored("outside", 0, "", upstream.NotSent), stored("outside", 307, "", upstream.Refused), stored("outside", 403, "SignatureDoesNotMatch", upstream.Refused)},
		"outside: no byte left, or the store refused the proxy's own signature", "not sent, or the store's own word"},
	{503, codeUnavailable, []named{either("state.ErrUnavailable", state.ErrUnavailable), either("guards.ErrLeaseOver", guards.ErrLeaseOver), either("guards.ErrWentBack", guards.ErrWentBack), either("state.ErrSchema", state.ErrSchema),
		either("state.ErrDiskFull", state.ErrDiskFull), either("state.ErrNoConnection", state.ErrNoConnection)},
		"the state cannot be asked (F9)", "a driver says so only of a transaction that did not commit and never will: the id of one whose COMMIT was sent is recorded as aborted first. A plain write whose lease ended on its way is 504"},
	{503, codeSlowDown, []named{either("state.ErrBusy", state.ErrBusy), verdict("NotActive", fence.NotActive), either("guards.ErrGuarded", guards.ErrGuarded), either("guards.ErrCut", guards.ErrCut), either("guarded.ErrGuardGone", guarded.ErrGuardGone)},
		"a lock is held for too long, guards are changing", "the transaction was rolled back, or never begun; a plain write that a new guard cut off after it had left is 504"},
	{503, codeSlowDown, []named{either("context.Canceled", context.Canceled), either("context.DeadlineExceeded", context.DeadlineExceeded)}, "the request took too long, before anything that cannot be taken back", "a commit is waited for whatever becomes of the client; a plain write that had left is 504"},
	{503, "ServiceUnavailable", []named{either("sigv4.Error", &sigv4.Error{Code: sigv4.CodeServiceUnavailable})}, "credentials cannot be looked up", "refused before anything is sent"},
	{504, codeUnknown, []named{either("state.ErrUnknown", state.ErrUnknown)}, "the answer to COMMIT was lost, and the transaction's id could not be settled in time", "may have"},
	{504, codeUnknown, []named{either("guarded.ErrUndecided", guarded.ErrUndecided)}, "an earlier try of the Complete, or another one of the upload, has left for the store and is not committed", "may have: sent again it mostly learns how; aborting the upload decides it"},
	{504, codeUnknown, []named{stored("outside", 0, "", upstream.Unknown), stored("outside", 502, "", upstream.Unknown), stored("outside", 200, "", upstream.Unknown)},
		"outside: the request left, and no answer of the store's own came, or a success that cannot be read", "may have"},
	{500, "InternalError", []named{either("guarded.ErrLostBytes", guarded.ErrLostBytes), either("state.ErrMarkFalls", state.ErrMarkFalls), either("", errors.New("of no table"))}, "an object whose bytes the store has lost (F6); a defect", "promises nothing; the log has the cause"},
}

// Every error that errors.go knows has a row that says what its answer promises, and
// is answered so (F7).
func TestPromises(t *testing.T) {
	t.Parallel()
	put := &operations[slices.IndexFunc(operations, func(o operation) bool { return o.name == "PutObject" })]
	listed := map[string]bool{}
	for _, p := range promises {
		if len(p.errs) == 0 || p.why == "" || p.when == "" {
			t.Errorf("%d %s: a row without errors, or without its reason", p.status, p.code)
		}
		for _, e := range p.errs {
			if e.name != "" {
				listed[e.name] = true
			}
			for _, where := range []string{"scope", "outside"} {
				if e.where != "" && e.where != where {
					continue
				}
				rq := &request{op: put, fenced: where == "scope", r: &http.Request{Header: http.Header{}}, who: &auth.Principal{}}
				rq.side.Guard = &fence.Guard{Writes: fence.Sealed}
				got := rq.answerTo(fmt.Errorf("doing it: %w", e.err))
				if got.status != p.status || p.code != "" && got.code != p.code {
					t.Errorf("%s (%v), %s: answered %d %s, want %d %s", e.name, e.err, where, got.status, got.code, p.status, p.code)
				}
			}
		}
	}
	for _, name := range errorsKnown(t) {
		if !listed[name] {
			t.Errorf("errors.go maps %s, and no row says what its answer promises (F7)", name)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("%s has a row, and errors.go does not know it", name)
	}
}

// errorsKnown are the names of the errors and verdicts in errors.go.
func errorsKnown(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if ok && (strings.HasPrefix(n.Sel.Name, "Err") && pkg.Name != "e" && pkg.Name != "o" && n.Sel.Name != "Error" || pkg.Name == "context" && n.Sel.Name != "Context") {
				names = append(names, pkg.Name+"."+n.Sel.Name)
			}
			if ok && pkg.Name == "sigv4" && n.Sel.Name == "Error" {
				names = append(names, "sigv4.Error")
			}
		case *ast.FuncDecl:
			if n.Name.Name == "refusal" {
				ast.Inspect(n, func(n ast.Node) bool {
					if c, ok := n.(*ast.CaseClause); ok {
						for _, x := range c.List {
							if s, ok := x.(*ast.SelectorExpr); ok {
								names = append(names, "fence."+s.Sel.Name)
							}
						}
					}
					return true
				})
			}
		case *ast.ValueSpec:
			if n.Names[0].Name == "ErrNoSuchBucket" {
				names = append(names, "ErrNoSuchBucket")
			}
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// promisesSection is the table as people read it.
func promisesSection() string {
	var b strings.Builder
	b.WriteString("| answer | when | it took effect | because |\n|---|---|---|---|\n")
	for _, p := range promises {
		took := "no, and never will"
		switch p.status {
		case 500:
			took = "unknown"
		case 503:
			took = "no"
		case 504:
			took = "perhaps"
		}
		var codes []string
		for _, e := range p.errs {
			if code := cmp.Or(p.code, codeOf(e.err)); !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
		for i, c := range codes {
			if codes[i] = "`" + c + "`"; c == "X" {
				codes[i] = "the store's code"
			}
		}
		fmt.Fprintf(&b, "| %d %s | %s | %s | %s |\n", p.status, strings.Join(codes, ", "), p.when, took, p.why)
	}
	return b.String()
}

func codeOf(err error) string {
	return (&request{r: &http.Request{}, who: &auth.Principal{}}).answerTo(err).code
}
