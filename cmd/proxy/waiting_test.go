package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/s3fence/s3fence/client"
)

func TestWaitText(t *testing.T) {
	t.Parallel()
	ann := &client.Holder{AccessKey: "AKIA", Owner: "ann@host", ExpiresIn: 12300 * time.Millisecond}
	for _, tc := range []struct {
		wait client.Wait
		want string
	}{
		{client.Wait{Holder: ann, Position: 3, Waiting: 5}, "held by ann@host for 12s more; you are 3rd of 5"},
		{client.Wait{Holder: ann, Position: 1, Waiting: 1}, "held by ann@host for 12s more; you are next"},
		{client.Wait{Holder: ann, Position: 1, Waiting: 4}, "held by ann@host for 12s more; you are next of 4"},
		{client.Wait{Holder: &client.Holder{AccessKey: "AKIA", ExpiresIn: time.Hour}}, "held by AKIA for 1h more"},
		{client.Wait{Delay: 90 * time.Second, Position: 11, Waiting: 12}, "granted to nobody for 1m30s more: its last lease ran out, and the guard has a lock_delay; you are 11th of 12"},
		{client.Wait{Position: 22, Waiting: 22}, "it is kept for those who came before; you are 22nd of 22"},
		{client.Wait{Left: 58 * time.Second, Trouble: errors.New("connection refused")}, "connection refused; asking again, for 58s at most"},
	} {
		tc.wait.Scope = "s3://demo/jobs/"
		assert.Equal(t, "waiting for s3://demo/jobs/: "+tc.want, waitText(tc.wait))
	}
}
