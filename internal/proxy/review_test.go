package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A call whose body must be read before its signature can be verified is a stranger's
// until then: it keeps no place that somebody else needs. Access keys are no secrets;
// each presigned URL has one.
func TestUnverifiedCallsMakeRoom(t *testing.T) {
	t.Parallel()
	p := newWorld(t).start(t, "S3FENCE_LIMITS__CONNECTIONS=2", "S3FENCE_LIMITS__CONNECTIONS_PER_ADDRESS=0")
	host := p.Addr().String()
	stamp := time.Now().UTC().Format("20060102T150405Z")
	for range 4 {
		s := p.socket(t)
		s.write("POST /-/v1/locks/acquire HTTP/1.1\r\nHost: " + host + "\r\nX-Amz-Date: " + stamp + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=ann/" +
			stamp[:8] + "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64) +
			"\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
		// It is told to send the body: so it is being waited for.
		resp, err := http.ReadResponse(s.answers, nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusContinue, resp.StatusCode)
	}
	s := p.socket(t)
	s.write("GET /data HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, "GET", host, "/data") + "\r\n")
	resp, body := s.answer("GET")
	assert.Equal(t, http.StatusOK, resp.StatusCode, body)
}

// Answers to strangers that nobody takes keep no place either.
func TestUntakenAnswersToStrangersMakeRoom(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"open call": "/-/v1/", "refused call": "/-/v1/" + strings.Repeat("x", 70), "refused": "/data/" + strings.Repeat("x", 900)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newWorld(t).start(t, "S3FENCE_LIMITS__CONNECTIONS=2", "S3FENCE_LIMITS__CONNECTIONS_PER_ADDRESS=0")
			host := p.Addr().String()
			for range 2 {
				s := p.socket(t)
				tcp, ok := s.Conn.(*net.TCPConn)
				require.True(t, ok)
				require.NoError(t, tcp.SetReadBuffer(4<<10))
				require.NoError(t, s.SetWriteDeadline(time.Now().Add(2*time.Second)))
				one := "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
				for err := error(nil); err == nil; {
					_, err = io.WriteString(s, strings.Repeat(one, 100))
				}
			}
			s := p.socket(t)
			s.write("GET /data HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, "GET", host, "/data") + "\r\n")
			resp, body := s.answer("GET")
			assert.Equal(t, http.StatusOK, resp.StatusCode, body)
		})
	}
}
