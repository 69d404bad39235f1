package lockapi

import (
	"net/http"
	"time"
)

// credentialsJSON is the form of credential_process
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html),
// with what the credentials carry beside it; its readers pass over that.
type credentialsJSON struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
	Scope           string `json:"scope"`
	Token           token  `json:"token"`
	Generation      int64  `json:"generation,omitempty"` // beyond the first only
}

// credentials issues fenced credentials. They can do what the caller can, less what
// the fence refuses them, so no right is asked for but that of asking about the
// scope at all.
func (s *server) credentials(c *call) (int, any, error) {
	sc, t, m, err := s.compare(c)
	if err != nil {
		return 0, nil, err
	}
	out, err := s.Sessions.Issue(c.principal, sc, m.Current(), t)
	return http.StatusOK, credentialsJSON{
		Version: 1, AccessKeyID: out.AccessKey, SecretAccessKey: out.SecretKey, SessionToken: out.SessionToken, Expiration: out.Expires.UTC(),
		Scope: sc.String(), Token: token(t), Generation: later(m),
	}, err
}
