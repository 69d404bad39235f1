package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lockAnswers are what a service answers that grants every lock.
var lockAnswers = map[string]string{
	"acquire":     `{"scope":"s3://demo/jobs/","token":7,"ttl":"30s","expires_in_ms":30000}`,
	"renew":       `{"scope":"s3://demo/jobs/","token":7,"ttl":"30s","expires_in_ms":30000}`,
	"credentials": `{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c","Expiration":"2100-01-02T15:04:05Z"}`,
	"claims":      `{"job":"job","slot":"one","holder":"a","owner":"b","claimed_at":"2026-01-02T15:04:05Z"}`,
	"release":     `{"released":true}`,
}

// A signal that comes when the lock is had and the command has not begun ends it, as
// before and after: the command does not run, and the lock is given back.
func TestLockRunInterruptedBeforeTheCommand(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"renew", "credentials", "claims"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			released, came := 0, make(chan struct{})
			var once sync.Once
			answer := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				call := path.Base(r.URL.Path)
				if call == at {
					once.Do(func() { close(came) })
					select {
					case <-answer:
					case <-r.Context().Done():
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if call == "release" {
					released++
				}
				_, _ = io.WriteString(w, lockAnswers[call])
			}))
			t.Cleanup(server.Close)
			p := &playground{t: t, env: []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "S3FENCE_ENDPOINT=" + server.URL}}
			r := p.start(nil, "lock", "run", "--claim", "job", "--slot", "one", "s3://demo/jobs/", "--", "sh", "-c", "echo ran")
			select {
			case <-came:
			case <-time.After(patience):
				t.Fatal("nobody asked")
			}
			r.signal(syscall.SIGTERM)
			time.AfterFunc(time.Second, func() { close(answer) }) // who ignores the signal goes on
			assert.Equal(t, 128+int(syscall.SIGTERM), r.await())
			assert.Empty(t, r.out.String(), "the command must not run")
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, 1, released)
			if at == "claims" {
				assert.Contains(t, r.errs.String(), "slot one of job job may be claimed by this run all the same")
			}
		})
	}
}

// A signal ends what asks a service that does not answer, at once.
func TestLockRunInterruptedUnanswered(t *testing.T) {
	t.Parallel()
	p := &playground{t: t, env: []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "S3FENCE_ENDPOINT=http://" + closedPort(t)}}
	r := p.start(nil, "lock", "run", "s3://demo/jobs/", "--", "true")
	r.says(&r.errs, "trying again")
	begun := time.Now()
	r.signal(syscall.SIGTERM)
	assert.Equal(t, 128+int(syscall.SIGTERM), r.await())
	assert.Less(t, time.Since(begun), 2*time.Second)
	assert.Less(t, r.cmd.ProcessState.UserTime(), time.Second, "nor does it spin")
}
