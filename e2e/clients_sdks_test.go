package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/tags"
	"github.com/stretchr/testify/require"
)

func boto3Client() *matrixClient {
	c := &matrixClient{name: "boto3", title: "boto3", slow: true, trust: "`AWS_CA_BUNDLE`", fenced: "environment, profile, `credential_process`"}
	c.version = saying(`(\d\S+)`, "python3", "-c", "import boto3; print(boto3.__version__)")
	do := func(name string) action {
		return func(s *site, args ...string) Output {
			script, err := filepath.Abs(filepath.Join("testdata", "clients.py"))
			require.NoError(s.t, err)
			out := command(s.t, s.work, environment(s.work, s.ca(s.env(), "AWS_CA_BUNDLE")), "", "python3", append([]string{script, name}, args...)...)
			if out.Code != 0 { // what a person reads of a traceback is its end
				lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
				out.Stderr = lines[len(lines)-1]
			}
			return out
		}
	}
	c.do = map[string]action{"big": do("download"), "odd": do("get")}
	for _, name := range []string{"upload", "multipart", "download", "list", "copy", "delete", "deleteall", "presignget", "presignput", "metadata", "tags"} {
		c.do[name] = do(name)
	}
	c.carriers = map[string]action{"header": do("byheader"), "metadata": do("bymetadata"), "query of a presigned URL": followed(do("byquery"))}
	return c
}

// followed puts a file to the link that an action says.
func followed(do action) action {
	return func(s *site, args ...string) Output {
		out := do(s, args...)
		if out.Code != 0 {
			return out
		}
		return s.curl("-T", args[0], link(out.Stdout))
	}
}

// module is the version of a module that this test is built of.
func module(path string) func(*testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		t.Helper()
		version, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", path).Output()
		require.NoError(t, err)
		return strings.TrimPrefix(strings.TrimSpace(string(version)), "v"), ""
	}
}

// inProcess makes an action of a function: what it returns is said, its error with
// exit code 1.
func inProcess(do func(ctx context.Context, s *site, args []string) (string, error)) action {
	return func(s *site, args ...string) Output {
		ctx, cancel := context.WithTimeout(s.t.Context(), commandWait)
		defer cancel()
		said, err := do(ctx, s, args)
		if err != nil {
			return Output{Code: 1, Stderr: err.Error()}
		}
		return Output{Stdout: said}
	}
}

func (s *site) transport() *http.Transport {
	var config *tls.Config
	if s.proxy.cluster.cert != nil {
		config = s.proxy.cluster.cert.client
	}
	return &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
}

func (s *site) goSDK(options ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{}, append([]func(*s3.Options){func(o *s3.Options) {
		o.BaseEndpoint, o.Region, o.UsePathStyle = aws.String(s.endpoint), "us-east-1", true
		o.Credentials = awscredentials.NewStaticCredentialsProvider(s.keys.AccessKey, s.keys.SecretKey, s.keys.SessionToken)
		o.HTTPClient = &http.Client{Transport: s.transport()}
		if !s.eager {
			o.RetryMaxAttempts = 1
		}
	}}, options...)...)
}

func goClient() *matrixClient {
	c := &matrixClient{name: "aws-sdk-go-v2", title: "aws-sdk-go-v2", trust: "`AWS_CA_BUNDLE`, `HTTPClient`", fenced: "environment, `client.Credentials`, `client/awss3`"}
	c.version = module("github.com/aws/aws-sdk-go-v2/service/s3")
	put := func(ctx context.Context, s *site, file, key string, change func(*s3.PutObjectInput), options ...func(*s3.Options)) error {
		body, err := os.Open(file)
		if err != nil {
			return err
		}
		defer body.Close()
		in := &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key), Body: body}
		if change != nil {
			change(in)
		}
		_, err = s.goSDK(options...).PutObject(ctx, in)
		return err
	}
	download := inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
		got, err := s.goSDK().GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[0])})
		if err != nil {
			return "", err
		}
		return "", save(got.Body, args[1])
	})
	keys := func(ctx context.Context, s *site, below string) (all []string, err error) {
		pages := s3.NewListObjectsV2Paginator(s.goSDK(), &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + below)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, o := range page.Contents {
				all = append(all, *o.Key)
			}
		}
		return all, nil
	}
	c.do = map[string]action{
		"upload": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return "", put(ctx, s, args[0], args[1], nil)
		}),
		"download": download, "big": download, "odd": download,
		"multipart": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return "", goSDKParts(ctx, s, args[0], aws.String(s.prefix+args[1]))
		}),
		"list": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			all, err := keys(ctx, s, args[0])
			return strings.Join(all, "\n"), err
		}),
		"copy": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			_, err := s.goSDK().CopyObject(ctx, &s3.CopyObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[1]), CopySource: aws.String(s.bucket + "/" + s.prefix + args[0])})
			return "", err
		}),
		"delete": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			_, err := s.goSDK().DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[0])})
			return "", err
		}),
		"deleteall": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			all, err := keys(ctx, s, args[0])
			if err != nil {
				return "", err
			}
			var objects []types.ObjectIdentifier
			for _, key := range all {
				objects = append(objects, types.ObjectIdentifier{Key: aws.String(key)})
			}
			gone, err := s.goSDK().DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: objects}})
			if err == nil && len(gone.Errors) > 0 {
				err = errors.New(aws.ToString(gone.Errors[0].Message))
			}
			return "", err
		}),
		"presignget": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			r, err := s3.NewPresignClient(s.goSDK()).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[0])})
			return linkOf(r, err)
		}),
		"presignput": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			r, err := s3.NewPresignClient(s.goSDK()).PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[0])})
			return linkOf(r, err)
		}),
		"metadata": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			err := put(ctx, s, args[0], args[1], func(in *s3.PutObjectInput) {
				in.ContentType, in.Metadata = aws.String("text/x-matrix"), map[string]string{"colour": "blue"}
			})
			if err != nil {
				return "", err
			}
			head, err := s.goSDK().HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[1])})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(aws.ToString(head.ContentType), head.Metadata), nil
		}),
		"tags": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			key := aws.String(s.prefix + args[0])
			_, err := s.goSDK().PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: &s.bucket, Key: key, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("shade"), Value: aws.String("pale")}}}})
			if err != nil {
				return "", err
			}
			got, err := s.goSDK().GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &s.bucket, Key: key})
			if err != nil || len(got.TagSet) != 1 {
				return "", fmt.Errorf("%d tags: %w", len(got.TagSet), err)
			}
			return *got.TagSet[0].Key + "=" + *got.TagSet[0].Value, nil
		}),
	}
	c.carriers = map[string]action{
		"header": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return "", put(ctx, s, args[0], args[1], nil, TokenHeader(tokenOf(s, args)))
		}),
		"metadata": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return "", put(ctx, s, args[0], args[1], func(in *s3.PutObjectInput) { in.Metadata = map[string]string{"fencing-token": args[2]} })
		}),
		"query of a presigned URL": followed(inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			r, err := s3.NewPresignClient(s.goSDK(TokenQuery(tokenOf(s, args)))).PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + args[1])})
			return linkOf(r, err)
		})),
	}
	return c
}

func tokenOf(s *site, args []string) int64 {
	token, err := strconv.ParseInt(args[2], 10, 64)
	require.NoError(s.t, err)
	return token
}

// goSDKParts uploads a file in parts of 8 MiB. The SDK has a module of its own for it,
// which sends these very requests.
func goSDKParts(ctx context.Context, s *site, file string, key *string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	client := s.goSDK()
	begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for number := int32(1); len(body) > 0; number++ {
		piece := body[:min(len(body), 8<<20)]
		body = body[len(piece):]
		part, err := client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &s.bucket, Key: key, UploadId: begun.UploadId, PartNumber: &number, Body: bytes.NewReader(piece)})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(number), ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32})
	}
	_, err = client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}

func save(body io.ReadCloser, path string) error {
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func minioClient() *matrixClient {
	c := &matrixClient{name: "minio-go", title: "minio-go", trust: "`SSL_CERT_FILE`, `Transport`", fenced: "`credentials.NewStaticV4`, `client/minios3`"}
	c.version = module("github.com/minio/minio-go/v7")
	client := func(s *site) *minio.Client {
		u, err := url.Parse(s.endpoint)
		require.NoError(s.t, err)
		o := &minio.Options{Creds: miniocredentials.NewStaticV4(s.keys.AccessKey, s.keys.SecretKey, s.keys.SessionToken), Secure: u.Scheme == "https", Transport: s.transport()}
		if !s.eager {
			o.MaxRetries = 1
		}
		made, err := minio.New(u.Host, o)
		require.NoError(s.t, err)
		return made
	}
	put := func(ctx context.Context, s *site, args []string, o minio.PutObjectOptions) error {
		_, err := client(s).FPutObject(ctx, s.bucket, s.prefix+args[1], args[0], o)
		return err
	}
	upload := inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
		return "", put(ctx, s, args, minio.PutObjectOptions{})
	})
	download := inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
		return "", client(s).FGetObject(ctx, s.bucket, s.prefix+args[0], args[1], minio.GetObjectOptions{})
	})
	remove := func(ctx context.Context, s *site, key string) error {
		return client(s).RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	}
	presigned := func(ctx context.Context, s *site, method, key string, query url.Values) (string, error) {
		u, err := client(s).Presign(ctx, method, s.bucket, s.prefix+key, 10*time.Minute, query)
		if err != nil {
			return "", err
		}
		return u.String(), nil
	}
	c.do = map[string]action{
		"upload": upload, "multipart": upload, "download": download, "big": download, "odd": download,
		"list": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			var all []string
			for o := range client(s).ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + args[0], Recursive: true}) {
				if o.Err != nil {
					return "", o.Err
				}
				all = append(all, o.Key)
			}
			return strings.Join(all, "\n"), nil
		}),
		"copy": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			_, err := client(s).CopyObject(ctx, minio.CopyDestOptions{Bucket: s.bucket, Object: s.prefix + args[1]}, minio.CopySrcOptions{Bucket: s.bucket, Object: s.prefix + args[0]})
			return "", err
		}),
		"delete": inProcess(func(ctx context.Context, s *site, args []string) (string, error) { return "", remove(ctx, s, args[0]) }),
		"deleteall": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			made := client(s)
			for e := range made.RemoveObjects(ctx, s.bucket, made.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + args[0], Recursive: true}), minio.RemoveObjectsOptions{}) {
				return "", e.Err
			}
			return "", nil
		}),
		"presignget": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return presigned(ctx, s, http.MethodGet, args[0], nil)
		}),
		"presignput": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return presigned(ctx, s, http.MethodPut, args[0], nil)
		}),
		"form": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			policy := minio.NewPostPolicy()
			if err := errors.Join(policy.SetBucket(s.bucket), policy.SetKey(s.prefix+args[1]), policy.SetExpires(time.Now().Add(time.Minute))); err != nil {
				return "", err
			}
			u, fields, err := client(s).PresignedPostPolicy(ctx, policy)
			if err != nil {
				return "", err
			}
			var form []string
			for name, value := range fields {
				form = append(form, "-F", name+"="+value)
			}
			out := s.curl(append(form, "-F", "file=@"+args[0], u.String())...)
			return out.Stdout, out.failure()
		}),
		"metadata": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			if err := put(ctx, s, args, minio.PutObjectOptions{ContentType: "text/x-matrix", UserMetadata: map[string]string{"colour": "blue"}}); err != nil {
				return "", err
			}
			info, err := client(s).StatObject(ctx, s.bucket, s.prefix+args[1], minio.StatObjectOptions{})
			return fmt.Sprint(info.ContentType, info.UserMetadata), err
		}),
		"tags": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			set, err := tags.NewTags(map[string]string{"shade": "pale"}, true)
			if err != nil {
				return "", err
			}
			if err := client(s).PutObjectTagging(ctx, s.bucket, s.prefix+args[0], set, minio.PutObjectTaggingOptions{}); err != nil {
				return "", err
			}
			got, err := client(s).GetObjectTagging(ctx, s.bucket, s.prefix+args[0], minio.GetObjectTaggingOptions{})
			if err != nil {
				return "", err
			}
			return got.String(), nil
		}),
	}
	c.carriers = map[string]action{
		"metadata": inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return "", put(ctx, s, args, minio.PutObjectOptions{UserMetadata: map[string]string{"fencing-token": args[2]}})
		}),
		"query of a presigned URL": followed(inProcess(func(ctx context.Context, s *site, args []string) (string, error) {
			return presigned(ctx, s, http.MethodPut, args[1], url.Values{"X-Fencing-Token": {args[2]}})
		})),
	}
	return c
}

// javaScriptClient sends what the SDK was recorded to send: a small upload and a
// download.
func javaScriptClient() *matrixClient {
	c := &matrixClient{name: "aws-sdk-js-v3", title: "aws-sdk-js v3 (recorded requests)", uncounted: true, trust: "`NODE_EXTRA_CA_CERTS`", fenced: "environment"}
	const folder = "aws-sdk-js-3.958.0"
	c.version = func(*testing.T) (string, string) { return strings.TrimPrefix(folder, "aws-sdk-js-"), "" }
	send := func(s *site, file, key string) Output {
		r := recorded{dir: folder, AccessKeyID: s.keys.AccessKey, SecretAccessKey: s.keys.SecretKey, SessionToken: s.keys.SessionToken, path: "/" + s.bucket + "/" + s.prefix + key}
		answer := r.send(s.t, s.proxy, file)
		if answer.Status != http.StatusOK {
			f := answer.Failure()
			return Output{Code: 1, Stderr: f.Code + ": " + f.Message}
		}
		return Output{Stdout: answer.Body}
	}
	c.do = map[string]action{
		"upload": func(s *site, args ...string) Output { return send(s, "put.http", args[1]) },
		"download": func(s *site, args ...string) Output {
			out := send(s, "get.http", args[0])
			if out.Code == 0 {
				require.NoError(s.t, os.WriteFile(args[1], []byte(out.Stdout), 0o600))
			}
			return out
		},
	}
	return c
}

// linkOf is the URL of a presigned request.
func linkOf(r *v4.PresignedHTTPRequest, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return r.URL, nil
}
