package edge

import (
	"net/http"
	"strings"
)

// expectContinue sends 100 Continue to a client that waits for it before it sends
// an empty body. net/http does not, which RFC 9110 section 10.1.1 allows; but
// botocore, having seen a final status in place of the 100 it waited for, takes
// that status for the answer to each later request of the connection, reads the
// real status line as a header and then waits for a body until it gives up. The
// aws CLI asks so for every file, empty ones too.
//
// An answer that comes before a body which is not empty closes the connection,
// which net/http sees to. Not every client waits for it: a Go client without an
// ExpectContinueTimeout sends the body at once; see [Conn.Close].
func expectContinue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 && r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			w.WriteHeader(http.StatusContinue)
		}
		next.ServeHTTP(w, r)
	})
}
