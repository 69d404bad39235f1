package sigv4

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
)

// curl before 8 signs the query as it was typed, neither sorted nor encoded, and sends
// no x-amz-content-sha256.
func TestRawQuerySigned(t *testing.T) {
	t.Parallel()
	const query = "prefix=s3://data/jobs/&all"
	canonical := strings.Join([]string{"GET", "/-/v1/locks", query,
		"host:h", "x-amz-date:20130524T000000Z", "", "host;x-amz-date", emptySHA256}, "\n")
	toSign := strings.Join([]string{algorithm, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", sha256Hex(canonical)}, "\n")
	key := deriveKey(keyID{exampleSecret, "20130524", "us-east-1", "s3"})
	signature := hex.EncodeToString(hmacSHA256(key[:], toSign))
	request := func(query string) *http.Request {
		return wire(t, "GET /-/v1/locks?"+query+" HTTP/1.1\nHost: h\nX-Amz-Date: 20130524T000000Z\nAuthorization: "+scopeText+
			" SignedHeaders=host;x-amz-date, Signature="+signature, "")
	}
	s, err := exampleVerifier().VerifyBuffered(request(query), 1<<10)
	noError(t, err)
	if got := s.SignedQuery("prefix"); len(got) != 1 || got[0] != "s3://data/jobs/" {
		t.Fatalf("%q", got)
	}
	for _, other := range []string{"prefix=s3://data/jobs/", "prefix=s3://data/jobs/&all=1", "prefix=s3://data/Jobs/&all", query + "&x"} {
		_, err := exampleVerifier().VerifyBuffered(request(other), 1<<10)
		wantCode(t, err, CodeSignatureDoesNotMatch)
	}
}
