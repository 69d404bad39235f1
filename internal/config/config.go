package config

import (
	"net/url"
	"strings"
	"time"
)

// Config is all that the proxy is told. Load returns it validated.
type Config struct {
	// Listen is where S3 and the lock API are served, AdminListen where health is;
	// "off" as AdminListen opens no such listener.
	Listen      string `key:"listen" default:":9000"`
	AdminListen string `key:"admin_listen" default:"127.0.0.1:9001"`
	// Domain makes BUCKET.Domain work beside Domain/BUCKET; empty: it does not.
	Domain string `key:"domain"`
	// Region is the one that clients sign for.
	Region string `key:"region" default:"us-east-1"`
	TLS    TLS    `key:"tls"`
	// State is postgres://… or sqlite:PATH.
	State State `key:"state"`
	// Upstreams are the stores by name, Buckets the clients' buckets by name.
	// Without Buckets there is one upstream, with all buckets under their own
	// names.
	Upstreams   map[string]Upstream `key:"upstreams"`
	Buckets     map[string]Bucket   `key:"buckets"`
	Credentials []Credential        `key:"credentials"`
	// Guards are added at the start where they are absent.
	Guards []Guard `key:"guards"`
	Limits Limits  `key:"limits"`
	// GuardLease is how long a proxy may act on the guard list after it last
	// asked; the same for all proxies of a deployment. 1 s to 5 min.
	GuardLease time.Duration `key:"guard_lease" default:"10s" min:"1s" max:"5m"`
	// UpstreamValidity is how long after its signing a change may arrive at the
	// store. Whole seconds, 1 s to 1 h.
	UpstreamValidity time.Duration `key:"upstream_validity" default:"15s" min:"1s" max:"1h"`
	// LongestUpload bounds a single upload; one that takes longer may be refused
	// when it ends.
	LongestUpload time.Duration `key:"longest_upload" default:"24h" min:"1m" max:"30d"`
	// CollectAfter is how long bytes that nothing refers to are kept; the age of
	// the oldest backup of the state that may be restored. CollectEvery is the
	// pause between two runs of the collector.
	CollectAfter time.Duration `key:"collect_after" default:"7d" min:"1s" max:"3650d"`
	CollectEvery time.Duration `key:"collect_every" default:"1h" min:"1s" max:"7d"`
	// EventsKeep is how long the event log is kept.
	EventsKeep time.Duration `key:"events_keep" default:"30d" min:"1h" max:"3650d"`
	// MaxJump is the max_jump of configured guards that name none.
	MaxJump int64 `key:"max_jump" default:"4294967296" min:"1"`
	Log     Log   `key:"log"`

	// SessionSecret enters the keys of fenced credentials, beside the secret key of
	// the credential that asks; the same for all proxies of a deployment. May be
	// empty. SessionSecretsAccepted are secrets whose sessions are opened but which
	// seal none; [NoSecret] among them stands for the empty one.
	SessionSecret          Secret   `key:"session_secret"`
	SessionSecretsAccepted []Secret `key:"session_secrets_accepted"`
	// SessionMaxAge is how long fenced credentials last at most.
	SessionMaxAge time.Duration `key:"session_max_age" default:"7d" min:"1h" max:"365d"`

	// SettleBound is how long after it arrived at the store a change can take effect,
	// at most. What leaves a guard waits for it.
	SettleBound time.Duration `key:"settle_bound" default:"75s" min:"1s" max:"1h"`

	// Settings of what this version does not do: writing in place. They are read
	// and checked, so that one file can serve several versions; [Config.Unused]
	// names those that somebody set.
	TakeoverWait time.Duration `key:"takeover_wait" default:"20s" min:"0s" max:"1h"`

	file    string
	origins map[string]Origin
}

// Unused names the settings that somebody made and that do nothing in this
// version.
func (c *Config) Unused() []string {
	var set []string
	for _, key := range []string{"takeover_wait"} {
		if o, ok := c.origins[key]; ok && o != (Origin{}) {
			set = append(set, key)
		}
	}
	return set
}

// NoSecret among SessionSecretsAccepted: sessions that were issued while there was
// no session_secret are opened.
const NoSecret Secret = "none"

// AcceptedSecrets are SessionSecretsAccepted in the clear, the empty one as "".
func (c *Config) AcceptedSecrets() []string {
	out := make([]string, len(c.SessionSecretsAccepted))
	for i, s := range c.SessionSecretsAccepted {
		if s != NoSecret {
			out[i] = s.Reveal()
		}
	}
	return out
}

// TLS makes the S3 listener speak TLS. Both files or neither.
type TLS struct {
	CertFile Path `key:"cert_file"`
	KeyFile  Path `key:"key_file"`
}

// Upstream is one object store.
type Upstream struct {
	Endpoint  string `key:"endpoint"`
	Region    string `key:"region" default:"us-east-1"`
	AccessKey string `key:"access_key"`
	SecretKey Secret `key:"secret_key"`
	PathStyle bool   `key:"path_style" default:"true"`
	// Path says what lies between: "direct", or "balanced" where something may
	// send a request twice. Sealed writing is right with both; leaving a guard waits
	// longer with "balanced".
	Path string `key:"path" default:"balanced" oneof:"direct,balanced"`
	// CAFile holds PEM certificates to trust instead of the system's.
	CAFile Path `key:"ca_file"`
}

// Bucket says where a client's bucket lies.
type Bucket struct {
	// Upstream may be left out where there is one only, Bucket where the name is
	// the same.
	Upstream string `key:"upstream"`
	Bucket   string `key:"bucket"`
}

// Credential is an access key of a client. Rights with Buckets is the short form
// of one grant.
type Credential struct {
	AccessKey string   `key:"access_key"`
	SecretKey Secret   `key:"secret_key"`
	Rights    []string `key:"rights"`
	Buckets   []string `key:"buckets"`
	Grants    []Grant  `key:"grants"`
	// Unfenced "allow" lets it write into guarded scopes without a token.
	Unfenced string `key:"unfenced" default:"deny" oneof:"deny,allow"`
}

// Grant gives rights (read, write, lock, admin) in places: "*" for every bucket,
// "data" for a bucket, "data/jobs/" for a prefix of one.
type Grant struct {
	Rights  []string `key:"rights"`
	Buckets []string `key:"buckets"`
}

// AllGrants are the grants with the short form among them.
func (c *Credential) AllGrants() []Grant {
	if len(c.Rights) == 0 && len(c.Buckets) == 0 {
		return c.Grants
	}
	return append([]Grant{{c.Rights, c.Buckets}}, c.Grants...)
}

// Guard is a guard that must be there.
type Guard struct {
	Pattern string `key:"pattern"`
	Writes  string `key:"writes" default:"sealed" oneof:"sealed,in-place"`
	Tokens  string `key:"tokens" default:"required" oneof:"required,optional,none"`
	Issuer  string `key:"issuer" default:"s3fence" oneof:"s3fence,external"`
	// MaxJump is zero where the guard names none; Load then fills in the
	// configuration's.
	MaxJump int64 `key:"max_jump" min:"1"`
	// LockDelay is how long nobody is granted a lock after a lease on it ran out.
	LockDelay time.Duration `key:"lock_delay" default:"0s" min:"0s" max:"1h"`
}

// Limits bound what requests and connections may use.
type Limits struct {
	// ConcurrentRequests are answered at one time, once their signature is verified;
	// more are told to try again.
	ConcurrentRequests int64 `key:"concurrent_requests" default:"1024" min:"1" max:"1000000"`
	// ConcurrentRequestsPerCredential are those of one configured credential, its
	// sessions included; 0 stands for half of ConcurrentRequests.
	ConcurrentRequestsPerCredential int64 `key:"concurrent_requests_per_credential" default:"0" min:"0" max:"1000000"`
	// Connections are open at one time, ConnectionsPerAddress from one address (of
	// IPv6, one /64); 0 for no bound of that kind.
	Connections           int64 `key:"connections" default:"4096" min:"1" max:"1000000"`
	ConnectionsPerAddress int64 `key:"connections_per_address" default:"1024" min:"0" max:"1000000"`
	// HeaderBytes bounds the request line with all headers, Headers their lines.
	HeaderBytes int64 `key:"header_bytes" default:"65536" min:"8192" max:"1048576"`
	Headers     int64 `key:"headers" default:"200" min:"50" max:"10000"`
	// HeaderTimeout bounds a TLS handshake, and the arrival of a request's headers;
	// IdleTimeout the pause between two requests of a connection.
	HeaderTimeout time.Duration `key:"header_timeout" default:"20s" min:"1s" max:"10m"`
	IdleTimeout   time.Duration `key:"idle_timeout" default:"2m" min:"1s" max:"1h"`
	// RequestDeadline bounds requests that stream nothing.
	RequestDeadline time.Duration `key:"request_deadline" default:"60s" min:"1s" max:"1h"`
	// StallTimeout ends a connection on which a body or an answer made no
	// progress for so long. Progress counts at MinRate bytes a second: a client
	// that is slower ends later, but ends; 0 for no minimum.
	StallTimeout time.Duration `key:"stall_timeout" default:"60s" min:"1s" max:"1h"`
	MinRate      int64         `key:"min_rate" default:"500" min:"0" max:"1000000"`
	// SpoolBytes is the largest body that is kept on disk, in SpoolDir, because it
	// must be known whole before it is sent, SpoolTotalBytes the sum of all of them
	// at one time. Empty SpoolDir: the system's directory for temporary files.
	SpoolBytes      int64 `key:"spool_bytes" default:"67108864" min:"65536"`
	SpoolTotalBytes int64 `key:"spool_total_bytes" default:"1073741824" min:"65536"`
	SpoolDir        Path  `key:"spool_dir"`
	// DrainTimeout bounds the wait for running requests at the end.
	DrainTimeout time.Duration `key:"drain_timeout" default:"30s" min:"0s" max:"1h"`
}

// Log says what is told on standard error, and how.
type Log struct {
	Level  string `key:"level" default:"info" oneof:"debug,info,warn,error"`
	Format string `key:"format" default:"text" oneof:"text,json"`
}

// Path is the name of a file. Load makes one that was relative in the file
// relative to the file's directory.
type Path string

const hidden = "(hidden)"

// Secret prints as "(hidden)"; Reveal is the one way to its value.
type Secret string

// String hides the value.
func (Secret) String() string { return hidden }

// GoString hides the value.
func (Secret) GoString() string { return hidden }

// MarshalText hides the value.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal is the value.
func (s Secret) Reveal() string { return string(s) }

// State is the URL of the state database. It prints without its password.
type State string

// String is the URL with the password hidden; where that cannot be found, with
// everything behind the scheme hidden.
func (s State) String() string {
	if s == "" {
		return ""
	}
	if s.SQLite() != "" {
		return string(s)
	}
	scheme, _, _ := strings.Cut(string(s), ":")
	u, err := url.Parse(string(s))
	if err != nil {
		return scheme + ":" + hidden
	}
	q := u.Query()
	for name := range q {
		if strings.Contains(strings.ToLower(name), "password") {
			q.Set(name, "xxxxx")
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}

// GoString hides what String does.
func (s State) GoString() string { return s.String() }

// MarshalText hides what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal is the URL with its password.
func (s State) Reveal() string { return string(s) }

// SQLite is the path of an SQLite state, or "".
func (s State) SQLite() string {
	path, ok := strings.CutPrefix(string(s), "sqlite:")
	if !ok {
		return ""
	}
	return path
}

// Postgres reports whether the state is in PostgreSQL.
func (s State) Postgres() bool {
	return strings.HasPrefix(string(s), "postgres://") || strings.HasPrefix(string(s), "postgresql://")
}
