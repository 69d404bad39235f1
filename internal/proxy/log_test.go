package proxy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/s3api"
)

// What fails is a warning; what anybody can ask for, without a signature too, is not,
// or the log would be theirs to fill.
func TestAnsweredRequestsInTheLog(t *testing.T) {
	t.Parallel()
	for status, warns := range map[int]bool{200: false, 403: false, 412: false, 499: false, 501: false, 500: true, 503: true, 504: true} {
		for _, level := range []string{"info", "debug"} {
			var out strings.Builder
			log := NewLogger(config.Log{Level: level}, &out)
			newQuiet(log).answered(t.Context(), &s3api.Record{Status: status, Code: "Code", Key: "k", AccessKey: "ann"})
			assert.Equal(t, warns, strings.Contains(out.String(), "level=WARN"), "%d at level %s: %s", status, level, out.String())
			assert.Equal(t, warns || level == "debug", out.String() != "", "%d at level %s: %s", status, level, out.String())
		}
	}
}

// Requests that nobody vouches for have one line of a kind, and none is a warning
// but where the proxy itself fails.
func TestRequestsOfStrangersInTheLog(t *testing.T) {
	t.Parallel()
	for status, warns := range map[int]bool{403: false, 501: false, 500: true} {
		var out strings.Builder
		q := newQuiet(NewLogger(config.Log{Level: "info"}, &out))
		for range 3 {
			q.answered(t.Context(), &s3api.Record{Status: status, Code: "Code"})
		}
		assert.Equal(t, warns, strings.Contains(out.String(), "level=WARN"), "%d: %s", status, out.String())
		lines := 1
		if warns {
			lines = 3
		}
		assert.Equal(t, lines, strings.Count(out.String(), "\n"), "%d: %s", status, out.String())
	}
}
