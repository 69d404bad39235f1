package storetest

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
)

var minIO = &brand{
	name: "MinIO", script: "minio.sh",
	args: func(s *Server) []string {
		return []string{"server", "--quiet", "--address", "127.0.0.1:" + strconv.Itoa(s.port),
			"--certs-dir", filepath.Join(s.folder, "certs"), s.data()}
	},
	env: func(s *Server) []string {
		return []string{
			"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
			// No web page on a port of its own, no look for updates.
			"MINIO_BROWSER=off", "MINIO_UPDATE=off",
			// CI mode lets the data stand on the root disk.
			"MINIO_CI_CD=1",
		}
	},
	// The probe turns green before the store knows its credentials.
	ready: map[string]int{"/minio/health/ready": http.StatusOK, "/": http.StatusForbidden},
}

var sharedMinIO = minIO.shared()

// MinIO returns the MinIO server that all tests of this process share.
func MinIO(t testing.TB) *Server {
	t.Helper()
	server, err := sharedMinIO()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Start starts a MinIO server for this test alone. It is ended and removed when
// the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	return minIO.start(t)
}
