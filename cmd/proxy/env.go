package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/s3fence/s3fence/client"
)

// fencedDrops are variables that would turn a program away from the credentials or
// the endpoint of [fencedEnv]. Some prefer a profile (JavaScript) or the older names of
// the keys (s3cmd), or refresh what has an expiration (boto3), which does not work with
// what was exported; one switch makes them forget the endpoint; and orders of search
// differ in where the rest stands. Not among these are AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE: a
// program may name a profile of theirs for another store.
var fencedDrops = []string{
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_SECURITY_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_CREDENTIAL_FILE",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}

// fencedEnv is, as NAME=value, what makes a program's requests to S3 fenced: the
// aws CLI and the SDKs take AWS_*, rclone finds a remote s3fence:, mc an alias
// s3fence, and s3fence itself the rest. What [fencedDrops] names must go.
//
// AWS_ENDPOINT_URL is not set: it would send the requests for every other service
// of AWS here, too.
func fencedEnv(ctx context.Context, endpoint, region, scope string, token int64, c client.Credentials) []string {
	at := numericEndpoint(ctx, endpoint)
	env := []string{
		"AWS_ACCESS_KEY_ID=" + c.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + c.SessionToken,
		"AWS_ENDPOINT_URL_S3=" + at,
		"AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region,
		"S3FENCE_ENDPOINT=" + endpoint,
		"S3FENCE_SCOPE=" + scope,
		"S3FENCE_TOKEN=" + number(token),
	}
	for _, v := range [...][2]string{
		{"TYPE", "s3"}, {"PROVIDER", "Other"}, {"ENV_AUTH", "false"},
		{"ACCESS_KEY_ID", c.AccessKeyID}, {"SECRET_ACCESS_KEY", c.SecretAccessKey}, {"SESSION_TOKEN", c.SessionToken},
		{"ENDPOINT", at}, {"REGION", region}, {"FORCE_PATH_STYLE", "true"},
		// It would create the bucket first, which is not the holder's to do.
		{"NO_CHECK_BUCKET", "true"},
	} {
		env = append(env, "RCLONE_CONFIG_S3FENCE_"+v[0]+"="+v[1])
	}
	if scheme, host, ok := strings.Cut(endpoint, "://"); ok {
		env = append(env, fmt.Sprintf("MC_HOST_s3fence=%s://%s:%s:%s@%s", scheme, c.AccessKeyID, c.SecretAccessKey, c.SessionToken, strings.TrimSuffix(host, "/")))
	}
	return append(env, pastProxy(endpoint, at)...)
}

// pastProxy keeps the address that stands for a name past the proxy for http that the
// name is kept past: NO_PROXY knows the name only.
func pastProxy(endpoint, at string) []string {
	if at == endpoint || proxied(endpoint) || !proxied(at) {
		return nil
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil
	}
	list := cmp.Or(os.Getenv("no_proxy"), os.Getenv("NO_PROXY")) + "," + u.Hostname()
	return []string{"NO_PROXY=" + list, "no_proxy=" + list}
}

// proxied reports whether requests to an endpoint take a proxy.
func proxied(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	via, err := httpproxy.FromEnvironment().ProxyFunc()(u)
	return err == nil && via != nil
}

// lookupTime bounds the search for the address of an endpoint.
const lookupTime = 5 * time.Second

// numericEndpoint gives an http endpoint its host as an address. SDKs put the
// bucket before a host that is a name, and no variable turns that off; before an
// address they cannot. With https the name stays, since certificates are for names.
func numericEndpoint(ctx context.Context, endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" {
		return endpoint
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return endpoint
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(found) == 0 {
		return endpoint // whoever uses it will say what is wrong
	}
	// The older kind first: more servers listen on it.
	at := found[max(slices.IndexFunc(found, func(a netip.Addr) bool { return a.Unmap().Is4() }), 0)].Unmap()
	port := u.Port()
	if port == "" {
		port = "80"
	}
	u.Host = net.JoinHostPort(at.String(), port)
	return u.String()
}

// printExports writes lines for a shell to evaluate.
func printExports(w io.Writer, env []string) error {
	var b strings.Builder
	b.WriteString("unset " + strings.Join(fencedDrops, " ") + "\n")
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		b.WriteString("export " + name + "=" + shellQuote(value) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shellQuote makes one word of POSIX shells, whatever is in it.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
