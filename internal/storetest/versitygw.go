package storetest

import (
	"net/http"
	"strconv"
	"testing"
)

var versitygw = &brand{
	name: "versitygw", script: "versitygw.sh",
	args: func(s *Server) []string {
		// Connections are kept as other stores keep them.
		return []string{"--quiet", "--keep-alive", "--port", "127.0.0.1:" + strconv.Itoa(s.port), "--region", Region,
			"posix", s.data()}
	},
	env: func(s *Server) []string {
		return []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	},
	ready: map[string]int{"/": http.StatusForbidden},
}

var sharedVersitygw = versitygw.shared()

// Versitygw returns the versitygw server, on its posix store, that all tests of
// this process share.
func Versitygw(t testing.TB) *Server {
	t.Helper()
	server, err := sharedVersitygw()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// StartVersitygw starts a versitygw server for this test alone. It is ended and
// removed when the test ends.
func StartVersitygw(t testing.TB) *Server {
	t.Helper()
	return versitygw.start(t)
}
