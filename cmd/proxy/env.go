package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/s3fence/s3fence/client"
)

// fencedDrops are variables that would turn a program away from the credentials or
// the endpoint of [fencedEnv]: some SDKs prefer a profile, some refresh what has an
// expiration, and one switch makes them forget the endpoint.
var fencedDrops = []string{
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_SECURITY_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
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
	return env
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
