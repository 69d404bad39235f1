package config

import (
	"strings"
	"testing"
)

// Two names of one bucket of a store would be a way past the guards of either.
func TestOneBucketHasOneName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		more []string
		want string
	}{
		"default port": {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://s3.test:80"}, "is the same bucket"},
		"capitals":     {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=HTTP://S3.Test/"}, "is the same bucket"},
		"root dot":     {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://s3.test."}, "is the same bucket"},
		"other port":   {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://s3.test:81"}, ""},
		"host names": {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://other", "S3FENCE_UPSTREAMS__B__PATH_STYLE=false",
			"S3FENCE_BUCKETS__TWO__BUCKET=Data"}, "capitals"},
		"paths":   {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://other", "S3FENCE_BUCKETS__TWO__BUCKET=Old_Data"}, ""},
		"no name": {[]string{"S3FENCE_UPSTREAMS__B__ENDPOINT=http://other", "S3FENCE_BUCKETS__TWO__BUCKET=data/x"}, "cannot be the name"},
	} {
		_, err := Load("", append([]string{
			"S3FENCE_STATE=sqlite:x", "S3FENCE_CREDENTIALS__0__ACCESS_KEY=ann", "S3FENCE_CREDENTIALS__0__SECRET_KEY=x",
			"S3FENCE_CREDENTIALS__0__RIGHTS=read", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
			"S3FENCE_UPSTREAMS__A__ENDPOINT=http://s3.test", "S3FENCE_UPSTREAMS__A__ACCESS_KEY=k", "S3FENCE_UPSTREAMS__A__SECRET_KEY=s",
			"S3FENCE_UPSTREAMS__B__ACCESS_KEY=k", "S3FENCE_UPSTREAMS__B__SECRET_KEY=s",
			"S3FENCE_BUCKETS__ONE__UPSTREAM=a", "S3FENCE_BUCKETS__ONE__BUCKET=data",
			"S3FENCE_BUCKETS__TWO__UPSTREAM=b", "S3FENCE_BUCKETS__TWO__BUCKET=data",
		}, tc.more...))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestStateHidesPasswordsInAnyCase(t *testing.T) {
	t.Parallel()
	for _, s := range []State{"postgres://h/db?PassWord=hush", "postgres://h/db?sslpassword=hush", "postgres://u:hush@h/db"} {
		if strings.Contains(s.String(), "hush") {
			t.Errorf("%s", s)
		}
	}
}
