package edge

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

// SDKs for Go send one header for each value of a list; anything else of S3's is sent
// once.
func TestHeadersGivenTwice(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"X-Amz-Object-Attributes": "", "X-Amz-Optional-Object-Attributes": "", "X-Amz-Meta-A": "", "Accept": "",
		"X-Amz-Date": "InvalidArgument", "X-Amz-Object-Ownership": "InvalidArgument", "X-Fencing-Token": "InvalidArgument", "Range": "InvalidArgument",
	} {
		r := httptest.NewRequest(http.MethodGet, "/data/k?attributes", http.NoBody)
		r.Header[name] = []string{"a", "b"}
		_, got, _ := malformed(r, 100)
		assert.Equal(t, code, got, name)
	}
}
