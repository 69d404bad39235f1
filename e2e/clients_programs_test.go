package e2e

import (
	"errors"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// matrixClients are all rows of the matrix.
func matrixClients(t *testing.T) []*matrixClient {
	t.Helper()
	one, two := awsPrograms(t)
	return []*matrixClient{
		awsClient("aws-cli-1", "aws CLI 1", one), awsClient("aws-cli-2", "aws CLI 2", two),
		boto3Client(), goClient(), minioClient(), javaScriptClient(),
		mcClient(t), rcloneClient(), s3cmdClient(), curlClient(), terraformClient(t), resticClient(),
	}
}

// env is what a program needs to work at the site, whichever it is.
func (s *site) env() map[string]string {
	u, err := url.Parse(s.endpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	user := s.keys.AccessKey + ":" + s.keys.SecretKey
	if s.keys.SessionToken != "" {
		user += ":" + s.keys.SessionToken
	}
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": s.keys.AccessKey, "AWS_SECRET_ACCESS_KEY": s.keys.SecretKey, "AWS_SESSION_TOKEN": s.keys.SessionToken,
		"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": s.endpoint, "AWS_PAGER": "",
		"PYTHONDONTWRITEBYTECODE": "1",
		"URL":                     s.endpoint, "HOST": u.Host, "BUCKET": s.bucket, "PREFIX": s.prefix, "P": s.bucket + "/" + s.prefix,
		"MC_HOST_s3fence": u.Scheme + "://" + user + "@" + u.Host,
	}
	for name, value := range map[string]string{
		"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "false", "ACCESS_KEY_ID": s.keys.AccessKey, "SECRET_ACCESS_KEY": s.keys.SecretKey,
		"SESSION_TOKEN": s.keys.SessionToken, "ENDPOINT": s.endpoint, "REGION": "us-east-1", "FORCE_PATH_STYLE": "true", "NO_CHECK_BUCKET": "true",
	} {
		env["RCLONE_CONFIG_S3FENCE_"+name] = value
	}
	if cert := s.proxy.cluster.cert; cert != nil {
		env["CA"], env["CURL_CA_BUNDLE"] = cert.certFile, cert.certFile
	}
	if !s.eager {
		// A failure of the product is to show, not to be tried away.
		env["AWS_MAX_ATTEMPTS"], env["RCLONE_RETRIES"], env["RCLONE_LOW_LEVEL_RETRIES"] = "1", "1", "1"
	}
	maps.DeleteFunc(env, func(_, v string) bool { return v == "" })
	env["AWS_PAGER"] = ""
	return env
}

// ca adds the variables that make a program trust the site's private CA.
func (s *site) ca(env map[string]string, names ...string) map[string]string {
	for _, name := range names {
		if env["CA"] != "" {
			env[name] = env["CA"]
		}
	}
	return env
}

// shell makes actions of shell lines: what comes before each, which variables name
// the CA, and the lines by operation.
func shell(before string, ca []string, lines map[string]string) map[string]action {
	actions := map[string]action{}
	for name, line := range lines {
		actions[name] = func(s *site, args ...string) Output {
			script := before + "\n" + line
			out := command(s.t, s.work, environment(s.work, s.ca(s.env(), ca...)), "", "sh", append([]string{"-c", script, "sh"}, args...)...)
			out.Command = line
			return out
		}
	}
	return actions
}

// saying runs a program that says its version.
func saying(pattern, program string, args ...string) func(*testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		t.Helper()
		if !filepath.IsAbs(program) {
			needs(t, program)
		}
		home := t.TempDir()
		out := command(t, home, environment(home, nil), "", program, args...)
		found := regexp.MustCompile(pattern).FindStringSubmatch(out.Stdout + out.Stderr)
		if found == nil {
			t.Fatalf("%s says no version: %s%s", out.Command, out.Stdout, out.Stderr)
		}
		return found[1], ""
	}
}

// awsPrograms finds every distinct aws there is: those of the PATH, and Debian's,
// which a version manager's shim may stand before.
func awsPrograms(t *testing.T) (one, two string) {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/local/bin") {
		path, err := exec.LookPath(filepath.Join(dir, "aws"))
		if err != nil {
			continue
		}
		home := t.TempDir()
		out := command(t, home, environment(home, nil), "", path, "--version")
		switch said := out.Stdout + out.Stderr; {
		case one == "" && strings.HasPrefix(said, "aws-cli/1."):
			one = path
		case two == "" && strings.HasPrefix(said, "aws-cli/2."):
			two = path
		}
	}
	if one == "" && two == "" {
		t.Fatal("there is no aws: install the aws CLI (Debian package awscli)")
	}
	return one, two
}

func awsClient(name, title, path string) *matrixClient {
	c := &matrixClient{name: name, title: title, slow: true, trust: "`AWS_CA_BUNDLE`", fenced: "environment, profile, `credential_process`"}
	c.version = saying(`aws-cli/(\S+)`, path, "--version")
	if path == "" {
		c.version = func(*testing.T) (string, string) {
			return "", title + " is not on this machine (Debian's package awscli is version 2; version 1 comes from pip alone)"
		}
	}
	// The option for the endpoint, since the variable is newer than Debian's.
	before := `aws() { '` + path + `' --endpoint-url "$URL" "$@"; }`
	ca := []string{"AWS_CA_BUNDLE"}
	c.begin = func(s *site) {
		// Without it the aws CLI 1 presigns in the old way in us-east-1.
		config := "[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n"
		if err := os.MkdirAll(s.file(".aws"), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(s.file(".aws/config"), []byte(config), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	upload := `aws s3 cp --no-progress "$1" "s3://$P$2"`
	download := `aws s3 cp --no-progress "s3://$P$1" "$2"`
	c.do = shell(before, ca, map[string]string{
		"upload": upload, "multipart": upload, "download": download, "big": download,
		"sync":       `aws s3 sync --no-progress "$1" "s3://$P$2"`,
		"syncdown":   `aws s3 sync --no-progress "s3://$P$1" "$2"`,
		"list":       `aws s3 ls --recursive "s3://$P$1"`,
		"copy":       `aws s3 cp --no-progress "s3://$P$1" "s3://$P$2"`,
		"move":       `aws s3 mv --no-progress "s3://$P$1" "s3://$P$2"`,
		"delete":     `aws s3 rm "s3://$P$1"`,
		"deleteall":  `aws s3 rm --recursive "s3://$P$1"`,
		"presignget": `aws s3 presign "s3://$P$1"`,
		"metadata": `aws s3 cp --no-progress --content-type text/x-matrix --metadata colour=blue "$1" "s3://$P$2" &&
			aws s3api head-object --bucket "$BUCKET" --key "$PREFIX$2"`,
		"tags": `aws s3api put-object-tagging --bucket "$BUCKET" --key "$PREFIX$1" --tagging 'TagSet=[{Key=shade,Value=pale}]' &&
			aws s3api get-object-tagging --bucket "$BUCKET" --key "$PREFIX$1"`,
	})
	c.carriers = shell(before, ca, map[string]string{
		"metadata": `aws s3 cp --no-progress --metadata "fencing-token=$3" "$1" "s3://$P$2"`,
	})
	return c
}

func mcClient(t *testing.T) *matrixClient {
	t.Helper()
	path := filepath.Join(mcPath(t), "mc")
	c := &matrixClient{name: "mc", title: "mc", slow: true, trust: "`SSL_CERT_FILE`, `~/.mc/certs/CAs`", fenced: "`MC_HOST_…`"}
	c.version = func(t *testing.T) (string, string) {
		t.Helper()
		// It was built from its module and does not know its version; its folder does.
		_, version, _ := strings.Cut(filepath.Base(filepath.Dir(path)), "-")
		return version, ""
	}
	before := `mc() { '` + path + `' "$@"; }`
	ca := []string{"SSL_CERT_FILE"}
	upload, download := `mc cp -q "$1" "s3fence/$P$2"`, `mc cp -q "s3fence/$P$1" "$2"`
	c.do = shell(before, ca, map[string]string{
		"upload": upload, "multipart": upload, "download": download, "big": download, "odd": download,
		"sync":       `mc mirror -q "$1" "s3fence/$P$2"`,
		"syncdown":   `mc mirror -q "s3fence/$P$1" "$2"`,
		"list":       `mc ls -r "s3fence/$P$1"`,
		"copy":       `mc cp -q "s3fence/$P$1" "s3fence/$P$2"`,
		"move":       `mc mv -q "s3fence/$P$1" "s3fence/$P$2"`,
		"delete":     `mc rm "s3fence/$P$1"`,
		"deleteall":  `mc rm -r --force "s3fence/$P$1"`,
		"presignget": `mc share download --expire 10m "s3fence/$P$1"`,
		"form":       `eval "$(mc share upload --expire 10m "s3fence/$P$2" | sed -n "s|^Share: ||p" | sed "s|<FILE>|$1|; s|^curl|curl -sS --fail-with-body|")"`,
		"metadata":   `mc cp -q --attr "colour=blue;Content-Type=text/x-matrix" "$1" "s3fence/$P$2" && mc stat "s3fence/$P$2"`,
		"tags":       `mc tag set "s3fence/$P$1" shade=pale && mc tag list "s3fence/$P$1"`,
	})
	c.carriers = shell(before, ca, map[string]string{
		"metadata": `mc cp -q --attr "fencing-token=$3" "$1" "s3fence/$P$2"`,
		"header":   `mc cp -q -H "X-Fencing-Token:$3" "$1" "s3fence/$P$2"`,
	})
	return c
}

func rcloneClient() *matrixClient {
	c := &matrixClient{name: "rclone", title: "rclone", slow: true, trust: "`SSL_CERT_FILE`, `--ca-cert` (1.60 does not start with `AWS_CA_BUNDLE`)", fenced: "`RCLONE_CONFIG_…`"}
	c.version = saying(`rclone v(\S+)`, "rclone", "version")
	ca := []string{"SSL_CERT_FILE"}
	c.begin = func(s *site) {
		// A notice that there is none would be the first thing that it says.
		path := s.file(".config/rclone/rclone.conf")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			s.t.Fatal(err)
		}
	}
	upload, download := `rclone copyto "$1" "s3fence:$P$2"`, `rclone copyto "s3fence:$P$1" "$2"`
	c.do = shell("", ca, map[string]string{
		"upload": upload, "download": download, "big": download, "odd": download,
		"multipart": `rclone copyto --s3-upload-cutoff 5M --s3-chunk-size 5M "$1" "s3fence:$P$2"`,
		"sync":      `rclone sync -L "$1" "s3fence:$P$2"`,
		"syncdown":  `rclone sync "s3fence:$P$1" "$2"`,
		"list":      `rclone lsf -R "s3fence:$P$1"`,
		"copy":      `rclone copyto "s3fence:$P$1" "s3fence:$P$2"`,
		"move":      `rclone moveto "s3fence:$P$1" "s3fence:$P$2"`,
		"delete":    `rclone deletefile "s3fence:$P$1"`,
		"deleteall": `rclone delete "s3fence:$P$1"`, "presignget": `rclone link --expire 10m "s3fence:$P$1"`,
		"metadata": `rclone copyto -M --metadata-set colour=blue --metadata-set content-type=text/x-matrix "$1" "s3fence:$P$2" && rclone lsjson -M "s3fence:$P$2"`,
	})
	c.carriers = shell("", ca, map[string]string{
		"metadata": `rclone copyto -M --metadata-set "fencing-token=$3" "$1" "s3fence:$P$2"`,
		"header":   `rclone copyto --header-upload "X-Fencing-Token: $3" "$1" "s3fence:$P$2"`,
	})
	return c
}

func s3cmdClient() *matrixClient {
	c := &matrixClient{name: "s3cmd", title: "s3cmd", slow: true, trust: "`--ca-certs`", fenced: "environment, `~/.s3cfg`"}
	c.version = saying(`version (\S+)`, "s3cmd", "--version")
	before := `case $URL in https:*) tls="--ssl --ca-certs=$CA" ;; *) tls=--no-ssl ;; esac
		s3cmd() { command s3cmd -c s3cfg $tls --host="$HOST" --host-bucket="$HOST" --region=us-east-1 "$@"; }`
	c.begin = func(s *site) {
		// signurl does not look at --ssl.
		config := "[default]\n"
		if s.proxy.cluster.cert != nil {
			config += "signurl_use_https = True\n"
		}
		if err := os.WriteFile(s.file("s3cfg"), []byte(config), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	upload, download := `s3cmd -q put "$1" "s3://$P$2"`, `s3cmd -q get --force "s3://$P$1" "$2"`
	c.do = shell(before, nil, map[string]string{
		"upload": upload, "multipart": upload, "download": download, "big": download,
		"sync":      `s3cmd -q sync "$1/" "s3://$P$2"`,
		"syncdown":  `mkdir "$2" && s3cmd -q sync "s3://$P$1" "$2/"`,
		"list":      `s3cmd ls -r "s3://$P$1"`,
		"copy":      `s3cmd -q cp "s3://$P$1" "s3://$P$2"`,
		"move":      `s3cmd -q mv "s3://$P$1" "s3://$P$2"`,
		"delete":    `s3cmd -q del "s3://$P$1"`,
		"deleteall": `s3cmd -q del -r --force "s3://$P$1"`, "presignget": `s3cmd signurl "s3://$P$1" +600`,
		"metadata": `s3cmd -q put -m text/x-matrix --add-header=x-amz-meta-colour:blue "$1" "s3://$P$2" && s3cmd info "s3://$P$2"`,
	})
	c.carriers = shell(before, nil, map[string]string{
		"metadata": `s3cmd -q put --add-header="x-amz-meta-fencing-token:$3" "$1" "s3://$P$2"`,
		"header":   `s3cmd -q put --add-header="X-Fencing-Token:$3" "$1" "s3://$P$2"`,
	})
	return c
}

func curlClient() *matrixClient {
	c := &matrixClient{name: "curl", title: "curl `--aws-sigv4`", trust: "`--cacert`, `CURL_CA_BUNDLE`", fenced: "`-H \"X-Amz-Security-Token: …\"`"}
	c.version = saying(`curl (\S+)`, "curl", "--version")
	// curl 7 does not say whether the body is signed.
	before := `s3() { curl -sS --fail-with-body --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
			-H "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD" ${AWS_SESSION_TOKEN:+-H "X-Amz-Security-Token: $AWS_SESSION_TOKEN"} "$@"; }`
	const tags = "<Tagging><TagSet><Tag><Key>shade</Key><Value>pale</Value></Tag></TagSet></Tagging>"
	upload, download := `s3 -T "$1" "$URL/$P$2"`, `s3 -o "$2" "$URL/$P$1"`
	c.do = shell(before, nil, map[string]string{
		"upload": upload, "download": download, "big": download,
		"odd": download,
		"multipart": `set -e
			id=$(s3 -X POST "$URL/$P$2?uploads=" | sed -n 's/.*<UploadId>\(.*\)<\/UploadId>.*/\1/p')
			split -b 9M "$1" part. && n=0 && set -- "$2" && list=
			for part in part.*; do
				n=$((n + 1))
				etag=$(s3 -T $part -D - -o /dev/null "$URL/$P$1?partNumber=$n&uploadId=$id" | sed -n 's/^[Ee][Tt]ag: *\([^[:space:]]*\).*/\1/p')
				list="$list<Part><PartNumber>$n</PartNumber><ETag>$etag</ETag></Part>"
			done
			s3 -X POST --data-binary "<CompleteMultipartUpload>$list</CompleteMultipartUpload>" "$URL/$P$1?uploadId=$id"`,
		"list": `s3 "$URL/$BUCKET?list-type=2&prefix=$(printf %s "$PREFIX$1" | sed 's|/|%2F|g')"`,

		"copy":     `s3 -X PUT -H "x-amz-copy-source: $P$1" "$URL/$P$2"`,
		"delete":   `s3 -X DELETE "$URL/$P$1"`,
		"metadata": `s3 -T "$1" -H "Content-Type: text/x-matrix" -H "x-amz-meta-colour: blue" "$URL/$P$2" && s3 -I "$URL/$P$2"`,
		"tags":     `s3 -X PUT -H "Content-MD5: ` + contentMD5(tags) + `" --data-binary "` + tags + `" "$URL/$P$1?tagging=" && s3 "$URL/$P$1?tagging="`,
	})
	c.carriers = shell(before, nil, map[string]string{
		"header":   `s3 -T "$1" -H "X-Fencing-Token: $3" "$URL/$P$2"`,
		"metadata": `s3 -T "$1" -H "x-amz-meta-fencing-token: $3" "$URL/$P$2"`,
	})
	// It sends a URL as it is given: escaping keys is up to whoever types it.
	for _, actions := range []map[string]action{c.do, c.carriers} {
		for name, do := range actions {
			actions[name] = func(s *site, args ...string) Output {
				args = slices.Clone(args)
				for i, arg := range args {
					if !filepath.IsAbs(arg) {
						args[i] = escape(arg)
					}
				}
				return do(s, args...)
			}
		}
	}
	return c
}

// terraformClient keeps its state below the prefix. An apply is its upload.
func terraformClient(t *testing.T) *matrixClient {
	t.Helper()
	path := terraform(t)
	c := &matrixClient{name: "terraform", title: "Terraform, OpenTofu", slow: true, alone: true, trust: "`AWS_CA_BUNDLE`", fenced: "environment"}
	c.version = saying(`((?:Terraform|OpenTofu) v\S+)`, path, "version")
	before := "export CHECKPOINT_DISABLE=1; tf='" + path + "'"
	ca := []string{"AWS_CA_BUNDLE"}
	c.begin = func(s *site) {
		text := `terraform {
  backend "s3" {
    bucket = "` + s.bucket + `"
    key = "` + s.prefix + `state"
    workspace_key_prefix = "` + s.prefix + `env"
    use_path_style = true
    skip_credentials_validation = true
    skip_metadata_api_check = true
    skip_region_validation = true
    skip_requesting_account_id = true
  }
}
variable "release" { default = "1" }
resource "terraform_data" "release" { input = var.release }
output "release" { value = terraform_data.release.output }
`
		if err := os.WriteFile(s.file("main.tf"), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		shell(before, ca, map[string]string{"init": `"$tf" init -input=false -no-color && "$tf" apply -input=false -auto-approve -no-color &&
			"$tf" workspace new -no-color old && "$tf" workspace select -no-color default`})["init"](s).Must(s.t)
	}
	c.do = shell(before, ca, map[string]string{
		"upload":   `"$tf" apply -input=false -auto-approve -no-color -var release=$$`,
		"download": `"$tf" state pull | grep terraform_data >/dev/null || "$tf" state pull`,
		"list":     `"$tf" workspace list -no-color`,
		"delete":   `"$tf" workspace delete -no-color -force old`,
	})
	return c
}

// resticClient keeps a repository below the prefix. A backup is its upload.
func resticClient() *matrixClient {
	c := &matrixClient{name: "restic", title: "restic", slow: true, alone: true, patient: true, trust: "`--cacert`, `SSL_CERT_FILE`", fenced: "environment"}
	c.version = saying(`restic (\S+)`, "restic", "version")
	before := `export RESTIC_REPOSITORY="s3:$URL/${P%/}" RESTIC_PASSWORD=secret RESTIC_PROGRESS_FPS=0`
	lines := map[string]string{
		"upload":    `restic backup -q tree/ small`,
		"download":  `rm -rf restored; restic restore -q latest --target restored && test "$(cat "$(find restored -name small)")" = "$(cat small)"`,
		"list":      `restic snapshots -q`,
		"delete":    `restic forget -q latest`,
		"deleteall": `restic prune -q`,
	}
	c.do = shell(before, []string{"SSL_CERT_FILE"}, lines)
	c.begin = func(s *site) {
		shell(before, []string{"SSL_CERT_FILE"}, map[string]string{"init": `restic init -q && restic backup -q small`})["init"](s).Must(s.t)
	}
	return c
}
