package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/pgtest"
)

// secrets are what must not come out, by what each of them is.
type secrets map[string]string

// look fails the test where a text has a secret, in the clear or as it may be
// encoded on its way.
func (s secrets) look(t *testing.T, where, text string) {
	t.Helper()
	for what, secret := range s {
		for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret)), fmt.Sprintf("%q", secret), fmt.Sprintf("%d", []byte(secret))} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s has the %s: …%s…", where, what, text[max(0, at-120):min(len(text), at+len(form)+60)])
				break
			}
		}
	}
}

const (
	markedPassword = "marked-database-password"
	markedSession  = "marked-session-secret-0123456789abcdef"
	markedAccepted = "marked-accepted-secret-0123456789abcde"
	markedClient   = "marked-client-secret-0123456789abcdef"
)

// A proxy that is told every kind of secret, at the log level debug, with good and
// bad requests, a database and a store that fail, and each way to end: nothing that
// comes out of it has one of the secrets.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	withPassword, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	withPassword.User = url.UserPassword(withPassword.User.Username(), markedPassword)
	c := NewCluster(t, Options{
		DSN: withPassword.String(), StoreFaults: true, StateFaults: true, Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "spare/"}},
		Credentials: []map[string]any{{"access_key": "marked-client", "secret_key": markedClient, "rights": []string{"read", "write", "lock"}, "buckets": []string{"*"}}},
		Config: map[string]any{
			"log": map[string]any{"level": "debug"}, "session_secret": markedSession, "session_secrets_accepted": []string{markedAccepted},
			"limits": map[string]any{"drain_timeout": "1s"},
		},
	})
	p := c.Proxies[0]
	secret := secrets{
		"database password": markedPassword, "session_secret": markedSession, "accepted session secret": markedAccepted,
		"secret key of a client": markedClient, "secret key of root": c.SecretKey, "secret key of the store": c.Store.SecretKey,
	}
	var answers strings.Builder
	heard := func(what string, a Answer) {
		fmt.Fprintf(&answers, "%s: %d %v\n%s\n", what, a.Status, a.Header, a.Body)
	}
	token := c.Acquire("jobs/", "ann")
	f := c.Fence(p, "jobs/", token)
	secret["fenced secret key"] = f.SecretKey
	sse := base64.StdEncoding.EncodeToString([]byte("marked-customer-key-of-32-bytes!"))
	sseHeaders := map[string]string{"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256", "X-Amz-Server-Side-Encryption-Customer-Key": sse,
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5": contentMD5("marked-customer-key-of-32-bytes!")}
	// What a client signs is told to whoever signs wrongly, as S3 does, so that its
	// own headers may stand in its own answer. In the log they may not.
	own := secrets{"fenced session token": f.SessionToken, "customer's encryption key": "marked-customer-key-of-32-bytes!"}

	send := func(what string, claim claimed, method, target, body string, edit func(*http.Request)) {
		r := p.forge(t, method, target, body, claim, edit)
		for _, signature := range []string{r.Header.Get("Authorization"), r.URL.RawQuery} {
			if _, rest, ok := strings.Cut(signature, "Signature="); ok {
				own["signature of "+what], _, _ = strings.Cut(rest, "&")
			}
		}
		if h := r.Header.Get("Authorization"); h != "" {
			own["Authorization of "+what] = h
		}
		if got, err := p.do(r); err == nil {
			heard(what, got)
		} else {
			fmt.Fprintf(&answers, "%s: %v\n", what, err)
		}
	}
	traffic := func(when string) {
		plain, scope := "/"+c.Bucket+"/plain", "/"+c.Bucket+"/jobs/k"
		client := claimed{key: "marked-client", secret: markedClient}
		session := claimed{key: f.AccessKey, secret: f.SecretKey, session: f.SessionToken}
		presigned := session
		presigned.expires = "60"
		customer := client
		customer.header = sseHeaders
		wrong := session
		wrong.secret = "wrong"
		send(when+" put", client, "PUT", plain, "x", nil)
		send(when+" get", client, "GET", plain, "", nil)
		send(when+" fenced put", session, "PUT", scope, "x", nil)
		send(when+" fenced get", session, "GET", scope, "", nil)
		send(when+" presigned put", presigned, "PUT", scope, "x", nil)
		send(when+" presigned get", presigned, "GET", scope, "", nil)
		send(when+" customer's key", customer, "PUT", plain, "x", nil)
		send(when+" customer's key in a scope", customer, "PUT", scope, "x", nil)
		send(when+" wrong secret", wrong, "PUT", scope, "x", nil)
		send(when+" altered", session, "PUT", scope, "x", func(r *http.Request) { r.URL.Path += "x" })
		send(when+" altered URL", presigned, "PUT", scope, "x", addQuery("acl"))
		send(when+" version 2", client, "GET", plain, "", set("Authorization", "AWS marked-client:"+own["signature of "+when+" get"]))
		send(when+" malformed", client, "GET", plain, "", auth("Signature=", "Signatur="))
		send(when+" list", client, "GET", "/"+c.Bucket+"?list-type=2", "", nil)
		send(when+" buckets", client, "GET", "/", "", nil)
		send(when+" acquire", session, "POST", "/-/v1/locks/acquire", fmt.Sprintf(`{"scope":%q,"owner":"o","ttl":"60s"}`, c.Scope("jobs/")), nil)
		send(when+" renew", claimed{}, "POST", "/-/v1/locks/renew", fmt.Sprintf(`{"scope":%q,"token":%d,"ttl":"60s"}`, c.Scope("jobs/"), token), nil)
		send(when+" nonsense", client, "POST", "/-/v1/locks/acquire", `{"scope":7}`, nil)
		for _, path := range []string{"locks", "events", "guards", "claims?job=j", "nothing", ""} {
			send(when+" "+path, client, "GET", "/-/v1/"+path, "", nil)
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/", "/debug/pprof/cmdline", "/debug/vars"} {
			if resp, err := http.Get(p.Admin() + path); err == nil {
				text := make([]byte, 1<<20)
				n, _ := resp.Body.Read(text)
				resp.Body.Close()
				fmt.Fprintf(&answers, "%s: %s\n", path, text[:n])
			}
		}
	}
	traffic("good")
	// What runs under a lock is not handed the secrets of a proxy on its machine.
	run := p.CLIWith(map[string]string{"S3FENCE_SESSION_SECRET": markedSession, "S3FENCE_STATE": withPassword.String(), "S3FENCE_CREDENTIALS__0__SECRET_KEY": markedClient,
		"S3FENCE_UPSTREAMS__MAIN__SECRET_KEY": c.Store.SecretKey}, "lock", "run", c.Scope("spare/"), "--", "env")
	if !strings.Contains(run.Must(t), "S3FENCE_TOKEN=") {
		t.Errorf("no environment: %s", run.Stdout)
	}
	secret.look(t, "the environment of a command under a lock", run.Stdout+run.Stderr)
	p.Store.Cut()
	if err := p.Store.Refuse(); err != nil {
		t.Fatal(err)
	}
	traffic("no store")
	if err := p.Store.Pass(); err != nil {
		t.Fatal(err)
	}
	p.State.Cut()
	if err := p.State.Refuse(); err != nil {
		t.Fatal(err)
	}
	traffic("no database")
	if err := p.State.Pass(); err != nil {
		t.Fatal(err)
	}
	// The ways to end, a dump of all goroutines among them, and a start without a
	// database.
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGABRT, unix.SIGTERM} {
		p.Env["GOTRACEBACK"] = "system"
		p.Restart()
		send("before "+sig.String(), claimed{key: f.AccessKey, secret: f.SecretKey, session: f.SessionToken}, "PUT", "/"+c.Bucket+"/jobs/k", "x", nil)
		p.Signal(sig)
		p.AwaitExit()
	}
	if err := p.State.Refuse(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--config", "s3fence.yaml"}, {"migrate", "--config", "s3fence.yaml"}, {"config", "check", "--config", "s3fence.yaml"}, {"config", "print", "--config", "s3fence.yaml"}, {"config", "print", "--json", "--config", "s3fence.yaml"}} {
		o := p.local(args...)
		secret.look(t, strings.Join(args, " "), o.Stdout+o.Stderr)
	}
	secret.look(t, "the state database", dumpState(t, dsn))
	log := p.Log()
	for _, sign := range []string{"level=DEBUG msg=request", "goroutine 1 ", "SIGQUIT", "SIGABRT", "operation=PutObject status=503"} {
		if !strings.Contains(log, sign) {
			t.Errorf("the log has no %q, so it proves little", sign)
		}
	}
	secret.look(t, "the log", log)
	own.look(t, "the log", log)
	secret.look(t, "an answer", answers.String())
}

// dumpState is all that the state database holds, as a backup of it does.
func dumpState(t *testing.T, dsn string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT quote_ident(relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace ORDER BY 1")
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var out strings.Builder
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), "SELECT x::text FROM "+table+" AS x")
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		fmt.Fprintf(&out, "%s (%d rows)\n%s\n", table, len(texts), strings.Join(texts, "\n"))
	}
	require.Contains(t, out.String(), "objects (")
	require.Contains(t, out.String(), rootAccessKey, "the holder's access key, so the dump has rows")
	return out.String()
}

// Configurations that are wrong around a secret are complained about without it.
func TestComplaintsHaveNoSecrets(t *testing.T) {
	t.Parallel()
	const marked = "marked/secret+value:0123456789"
	escaped := url.QueryEscape(marked)
	good := func() map[string]any {
		return map[string]any{
			"state":       "sqlite:" + filepath.Join(t.TempDir(), "state.db"),
			"upstreams":   map[string]any{"main": map[string]any{"endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": marked}},
			"credentials": []any{map[string]any{"access_key": "k", "secret_key": marked, "rights": []string{"read"}, "buckets": []string{"*"}}},
			"listen":      "127.0.0.1:0", "admin_listen": "off",
		}
	}
	put := func(path string, v any) func(map[string]any) {
		return func(m map[string]any) {
			parts := strings.Split(path, ".")
			for _, p := range parts[:len(parts)-1] {
				m = m[p].(map[string]any)
			}
			m[parts[len(parts)-1]] = v
		}
	}
	for name, tc := range map[string]struct {
		edit func(map[string]any)
		env  map[string]string
	}{
		"state, no such host":         {edit: put("state", "postgres://u:"+escaped+"@nowhere.invalid/db?connect_timeout=1")},
		"state, nobody there":         {edit: put("state", "postgres://u:"+escaped+"@127.0.0.1:1/db")},
		"state, bad port":             {edit: put("state", "postgres://u:"+escaped+"@127.0.0.1:port/db")},
		"state, unescaped":            {edit: put("state", "postgres://u:"+marked+"%zz@127.0.0.1:1/db")},
		"state, bad parameter":        {edit: put("state", "postgres://u:"+escaped+"@127.0.0.1:1/db?sslmode=nonsense")},
		"state, password parameter":   {edit: put("state", "postgres://u@127.0.0.1:1/db?password="+escaped)},
		"state, sslpassword":          {edit: put("state", "postgres://u@127.0.0.1:1/db?sslmode=require&sslpassword="+escaped)},
		"state, two hosts":            {edit: put("state", "postgres://u:"+escaped+"@127.0.0.1:1,127.0.0.1:2/db")},
		"state of another database":   {edit: put("state", "mysql://u:"+escaped+"@127.0.0.1:1/db")},
		"state, words":                {edit: put("state", "host=127.0.0.1 password="+marked)},
		"state, a list":               {edit: put("state", []string{marked})},
		"state, a map":                {edit: put("state", map[string]any{"url": marked})},
		"endpoint with a user":        {edit: put("upstreams.main.endpoint", "http://u:"+escaped+"@127.0.0.1:1")},
		"endpoint with a query":       {edit: put("upstreams.main.endpoint", "http://127.0.0.1:1/?token="+escaped)},
		"secret_key, a list":          {edit: put("upstreams.main.secret_key", []string{marked})},
		"secret_key, a map":           {edit: put("upstreams.main.secret_key", map[string]any{"value": marked})},
		"secret_key twice":            {edit: put("upstreams.main.secret_key_file", "/nonexistent/"+"file")},
		"session_secret, a map":       {edit: put("session_secret", map[string]any{"value": marked})},
		"session_secret, a list":      {edit: put("session_secret", []string{marked})},
		"accepted, a word":            {edit: put("session_secrets_accepted", marked)},
		"credentials, a map":          {edit: put("credentials", map[string]any{"secret_key": marked})},
		"credentials, a word":         {edit: put("credentials", marked)},
		"a secret under a wrong name": {edit: put("upstreams.main.secret_kee", marked)},
		"by environment, wrong name":  {env: map[string]string{"S3FENCE_UPSTREAMS__MAIN__SECRET_KEE": marked}},
		"by environment, on a branch": {env: map[string]string{"S3FENCE_CREDENTIALS": marked, "S3FENCE_UPSTREAMS": marked}},
		"by environment, state":       {env: map[string]string{"S3FENCE_STATE": "postgres://u:" + marked + "%zz@h:port/db"}},
		"by environment, both ways":   {env: map[string]string{"S3FENCE_SESSION_SECRET": marked, "S3FENCE_SESSION_SECRET_FILE": "/nonexistent"}},
		"fine":                        {},
	} {
		t.Run(name, func(t *testing.T) {
			config := good()
			if tc.edit != nil {
				tc.edit(config)
			}
			folder := serverFolder(t, "complaints")
			writeConfig(t, folder, config)
			for _, args := range [][]string{{"config", "check"}, {"config", "print"}, {"config", "print", "--json"}, {"migrate"}, {"serve"}} {
				if args[0] == "serve" && name == "fine" {
					continue // it would run
				}
				o := command(t, folder, environment(folder, tc.env), "", Binary(t, Plain), append(args, "--config", "s3fence.yaml")...)
				secrets{"secret": marked}.look(t, strings.Join(args, " "), o.Stdout+o.Stderr)
				if o.Code == 0 && name != "fine" && args[0] == "serve" {
					t.Errorf("%v: exit code 0", args)
				}
			}
		})
	}
	// What the environment and the command line of a client may hold.
	for _, args := range [][]string{{"lock", "acquire", "s3://b/x/"}, {"lock", "run", "s3://b/x/", "--", "true"}, {"events"}, {"credentials", "s3://b/x/", "--token", "1"}} {
		for _, endpoint := range []string{"http://127.0.0.1:1", "http://u:" + escaped + "@127.0.0.1:1", "http://u:" + escaped + "@127.0.0.1:port", "http://u:" + marked + "%zz@h", "http://127.0.0.1:1/?X-Amz-Signature=" + escaped} {
			t.Run(args[0]+" at "+endpoint[:min(len(endpoint), 20)], func(t *testing.T) {
				t.Parallel() // what cannot be reached is tried for some seconds
				env := map[string]string{"S3FENCE_ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": marked, "AWS_SESSION_TOKEN": marked, "S3FENCE_SESSION_SECRET": marked}
				folder := t.TempDir()
				o := command(t, folder, environment(folder, env), "", Binary(t, Plain), args...)
				secrets{"secret": marked}.look(t, o.Command, o.Stdout+o.Stderr)
				if o.Code == 0 {
					t.Errorf("%s: exit code 0", o.Command)
				}
			})
		}
	}
	all := command(t, t.TempDir(), environment(t.TempDir(), nil), "", Binary(t, Plain), "--help").Stdout
	for line := range strings.Lines(all) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(line, "  ") || name == "" || strings.HasPrefix(name, "-") || name == "s3fence" {
			continue
		}
		o := command(t, t.TempDir(), environment(t.TempDir(), map[string]string{
			"S3FENCE_SESSION_SECRET": marked, "S3FENCE_STATE": "postgres://u:" + escaped + "@h/db", "AWS_SECRET_ACCESS_KEY": marked,
		}), "", Binary(t, Plain), name, "--help")
		secrets{"secret": marked}.look(t, name+" --help", o.Stdout+o.Stderr)
	}
}
