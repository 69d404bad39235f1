package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The secrets of sessions, from each place that they can come from; none of them
// is shown by any way of printing.
func TestSessionSecrets(t *testing.T) {
	t.Parallel()
	one, two, three := strings.Repeat("1", 32), strings.Repeat("2", 40), strings.Repeat("3", 32)+", with a comma"
	folder := t.TempDir()
	secret, list := filepath.Join(folder, "secret"), filepath.Join(folder, "list")
	require.NoError(t, os.WriteFile(secret, []byte(one+"\n"), 0o600))
	require.NoError(t, os.WriteFile(list, []byte(two+"\r\n\n"+three+"\nnone\n"), 0o600))
	for _, tc := range []struct {
		name, text string
		env        []string
		secret     string
		accepted   []string
	}{
		{"none at all", "", nil, "", []string{}},
		{"in the file", "session_secret: " + one + "\nsession_secrets_accepted: [" + two + ", none]\n", nil, one, []string{two, ""}},
		{"in files", "session_secret_file: " + secret + "\nsession_secrets_accepted_file: " + list + "\n", nil, one, []string{two, three, ""}},
		{"in the environment", "", []string{"S3FENCE_SESSION_SECRET=" + one, "S3FENCE_SESSION_SECRETS_ACCEPTED=none," + two}, one, []string{"", two}},
		{"one by one", "", []string{"S3FENCE_SESSION_SECRETS_ACCEPTED__0=" + three, "S3FENCE_SESSION_SECRETS_ACCEPTED__1=none"}, "", []string{three, ""}},
		{"in files of the environment", "session_secrets_accepted: [" + one + "]\n", []string{"S3FENCE_SESSION_SECRET_FILE=" + secret, "S3FENCE_SESSION_SECRETS_ACCEPTED_FILE=" + list}, one, []string{two, three, ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(write(t, minimal+tc.text), tc.env)
			require.NoError(t, err)
			assert.Equal(t, tc.secret, c.SessionSecret.Reveal())
			assert.Equal(t, tc.accepted, c.AcceptedSecrets())
			assert.Equal(t, 7*24*time.Hour, c.SessionMaxAge)
			assert.Empty(t, c.Unused())
			var printed strings.Builder
			require.NoError(t, c.Redacted(&printed))
			asJSON, err := json.Marshal(c)
			require.NoError(t, err)
			for _, text := range []string{printed.String(), fmt.Sprintf("%v", c), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", *c), string(asJSON), fmt.Sprint(c.Entries())} {
				for _, hidden := range []string{one, two, three} {
					assert.NotContains(t, text, hidden)
				}
			}
			if len(tc.accepted) == 2 {
				assert.Contains(t, printed.String(), "session_secrets_accepted: [(hidden), (hidden)]")
			}
		})
	}
}

func TestBadSessionSettings(t *testing.T) {
	t.Parallel()
	short := "not-to-be-seen"
	for text, says := range map[string]string{
		"session_secret: " + short:                                     "session_secret: it has 14 characters; at least 32 are wanted; make one with: openssl rand -base64 32",
		"session_secret: none":                                         "it has 4 characters",
		"session_secrets_accepted: [" + short + "]":                    "session_secrets_accepted[0]: it has 14 characters; at least 32 are wanted; make one with: openssl rand -base64 32; or write none",
		"session_secrets_accepted: " + short:                           "session_secrets_accepted: a list is wanted here",
		"session_secrets_accepted: [{a: " + short + "}]":               "session_secrets_accepted[0]",
		"session_max_age: 59m":                                         "59m is too short; it may be from 1h to 365d",
		"session_secret: " + short + "\nsession_secret_file: " + short: "session_secret and session_secret_file are both set",
		"session_secrets: [" + short + "]":                             "did you mean session_secret?",
	} {
		_, err := Load(write(t, minimal+text+"\n"), nil)
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), says)
		assert.NotContains(t, err.Error(), short)
	}
}
