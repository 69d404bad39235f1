package storetest

import (
	"crypto/rand"
	"encoding/base64"
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

// encrypting is a MinIO with a key of its own that encrypts every object with it, as
// a bucket of S3 with SSE-KMS does. Its ETags look like MD5s and are none.
var encrypting = &brand{
	name: minIO.name, script: minIO.script, args: minIO.args, ready: minIO.ready,
	env: func(s *Server) []string {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		return append(minIO.env(s), "MINIO_KMS_AUTO_ENCRYPTION=on", "MINIO_KMS_SECRET_KEY=test:"+base64.StdEncoding.EncodeToString(key))
	},
}

// StartEncrypting is [Start] for a MinIO that encrypts whatever it is given. Its key
// does not outlive it: Restart loses what was stored.
func StartEncrypting(t testing.TB) *Server {
	t.Helper()
	return encrypting.start(t)
}
