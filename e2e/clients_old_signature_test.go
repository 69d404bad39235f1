package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Signature Version 2 is refused, in the header and in links, with what to do about it:
// by every tool that still makes it, as it shows it.
func TestOldSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{})
	p := c.Proxies[0]
	p.Put(t, "old/small", smallBody).Want(t, 200)
	s := &site{t: t, proxy: p, tap: p.Tap(t), bucket: c.Bucket, prefix: "old/", keys: Fenced{AccessKey: c.AccessKey, SecretKey: c.SecretKey}, work: t.TempDir(), eager: true}
	s.endpoint = s.tap.URL
	require.NoError(t, os.WriteFile(s.file("small"), []byte(smallBody), 0o600))
	script, err := filepath.Abs(filepath.Join("testdata", "old_signature.py"))
	require.NoError(t, err)
	mc := filepath.Join(mcPath(t), "mc")
	one, two := awsPrograms(t)

	const remedy = "s3v4"
	type tool struct {
		line string
		// link: what it says is a link, which is then followed. silent: it begins with a
		// HEAD, whose answer it shows as a status.
		link, silent bool
	}
	tools := map[string]tool{
		"boto3, in the header":     {line: `python3 '` + script + `' header`},
		"boto3, a link":            {line: `python3 '` + script + `' link`, link: true},
		"s3cmd --signature-v2":     {line: `s3cmd -c /dev/null --no-ssl --host="$HOST" --host-bucket="$HOST" --signature-v2 put small "s3://${P}late"`},
		"s3cmd signurl":            {line: `s3cmd -c /dev/null --no-ssl --host="$HOST" --host-bucket="$HOST" signurl "s3://${P}small" +600`, link: true},
		"rclone --s3-v2-auth":      {line: `rclone --retries 1 copyto --s3-v2-auth small "s3fence:${P}late"`, silent: true},
		"rclone --s3-v2-auth, get": {line: `rclone --retries 1 cat --s3-v2-auth "s3fence:${P}small"`, silent: true},
		"mc alias --api S3v2":      {line: `'` + mc + `' alias set old "$URL" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" --api S3v2 && '` + mc + `' cp small "old/${P}late"`},
	}
	for name, path := range map[string]string{"aws CLI 1 presign": one, "aws CLI 2 presign": two} {
		if path != "" {
			tools[name] = tool{line: `'` + path + `' --endpoint-url "$URL" s3 presign "s3://${P}small"`, link: true}
		}
	}
	for name, tool := range tools {
		t.Run(name, func(t *testing.T) {
			out := shell("", nil, map[string]string{"run": tool.line})["run"](s)
			if tool.link {
				url := link(out.Must(t))
				if name == "aws CLI 2 presign" {
					// It knows nothing else any more.
					assert.Contains(t, url, "X-Amz-Signature=")
					assert.Equal(t, smallBody, s.curl(url).Must(t)+"\n")
					return
				}
				assert.Contains(t, url, "AWSAccessKeyId=")
				out = s.curl(url)
			}
			assert.NotZero(t, out.Code)
			t.Logf("%s", s.firstLine(out))
			if !tool.silent {
				assert.Contains(t, out.Stdout+out.Stderr, "Signature Version 2")
				assert.Contains(t, out.Stdout+out.Stderr, remedy)
			}
		})
	}
	t.Run("minio-go", func(t *testing.T) {
		old := func(o *minio.Options) {
			o.Creds = miniocredentials.NewStaticV2(c.AccessKey, c.SecretKey, "")
		}
		_, err := p.MinIO(t, old).FPutObject(t.Context(), c.Bucket, "old/late", s.file("small"), minio.PutObjectOptions{})
		require.ErrorContains(t, err, remedy)
		// A HEAD's answer has no room but in headers, which minio-go reads.
		_, err = p.MinIO(t, old).StatObject(t.Context(), c.Bucket, "old/small", minio.StatObjectOptions{})
		require.ErrorContains(t, err, remedy)
	})
	assert.NoError(t, s.lacks("late"))
}
