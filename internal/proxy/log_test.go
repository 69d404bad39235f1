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
			answered(log)(t.Context(), &s3api.Record{Status: status, Code: "Code", Key: "k"})
			assert.Equal(t, warns, strings.Contains(out.String(), "level=WARN"), "%d at level %s: %s", status, level, out.String())
			assert.Equal(t, warns || level == "debug", out.String() != "", "%d at level %s: %s", status, level, out.String())
		}
	}
}
