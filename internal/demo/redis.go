package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	// redisTime bounds each call to a Redis, and the first answer of one.
	redisTime = 3 * time.Second
	// serverTime bounds the start of a Redis of our own.
	serverTime = 5 * time.Second
	// probeTTL is the life of the key that the first question sets.
	probeTTL = time.Second
	// maxSocket is the longest path of a Unix socket, in bytes, that every system
	// takes.
	maxSocket = 100
	// localRedis is where a Redis usually is.
	localRedis = "redis://127.0.0.1:6379"
)

// NoRedis as Options.Redis means the stand-in.
const NoRedis = "none"

// redisPlace is a server that speaks Redis's protocol.
type redisPlace struct {
	// URL names it, unless Socket does: the path of a Unix socket.
	URL, Socket string
}

func (p redisPlace) dial(ctx context.Context) (redis.Conn, error) {
	o := []redis.DialOption{redis.DialConnectTimeout(redisTime), redis.DialReadTimeout(redisTime), redis.DialWriteTimeout(redisTime)}
	if p.Socket != "" {
		return redis.DialContext(ctx, "unix", p.Socket, o...)
	}
	// The error of url.Parse would show the password.
	if u, err := url.Parse(p.URL); err != nil || u.Host == "" {
		return nil, errors.New("its address is not a URL such as redis://user:password@host:6379/0")
	}
	return redis.DialURLContext(ctx, p.URL, o...)
}

// name is the place without its password, for people.
func (p redisPlace) name() string {
	if p.Socket != "" {
		return p.Socket
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	return u.Host
}

// try runs the whole recipe once on a key and says what the server is. A server
// that is none, asks for a password, is read-only or forbids scripts fails here.
func (p redisPlace) try(ctx context.Context, key string) (what string, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTime)
	defer cancel()
	l, err := lockPlace{TTL: probeTTL, Redis: p, Key: key}.open(ctx, "")
	if err != nil {
		return "", err
	}
	defer l.close()
	if err := l.take(ctx, func(string) {}); err != nil {
		return "", err
	}
	if back, err := l.giveBack(ctx); err != nil || !back {
		return "", errors.Join(errors.New("the key that was set was not there"), err)
	}
	return version(l.(*recipe).conn), nil
}

// version is the server's name and version, or just Redis where it does not tell.
func version(conn redis.Conn) string {
	text, err := redis.String(conn.Do("INFO", "server"))
	if err != nil {
		return "Redis"
	}
	about := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			about[name] = value
		}
	}
	// Valkey says redis_version too, for the sake of old clients.
	if v := about["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	return strings.TrimSpace("Redis " + about["redis_version"])
}

// forget deletes a key, and says what is left where it cannot.
func (p redisPlace) forget(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTime)
	defer cancel()
	conn, err := p.dial(ctx)
	if err == nil {
		defer conn.Close() //nolint:errcheck // what it was for is done, or failed
		_, err = redis.DoContext(conn, ctx, "DEL", key)
	}
	if err != nil {
		return fmt.Errorf("the key %s was not deleted in %s and ends by itself: %w", key, p.name(), err)
	}
	return nil
}

// foundRedis is a server for act 1.
type foundRedis struct {
	place redisPlace
	key   string
	// is says what it is, notes what was tried before.
	is    string
	notes []string
}

// findRedis looks for a server that can do the recipe: the one that asked names
// and no other; else the one of REDIS_URL, the one on its usual port, one of our
// own where the program is installed; else the stand-in. What it starts is given
// to later, to be ended.
func findRedis(ctx context.Context, asked, folder string, later func(func() error)) (foundRedis, error) {
	f := foundRedis{key: "s3fence-demo:" + strings.ToLower(rand.Text()[:10])}
	try := func(p redisPlace, from string) bool {
		what, err := p.try(ctx, f.key)
		if err != nil {
			f.notes = append(f.notes, fmt.Sprintf("%s is not usable: %v", from, err))
			return false
		}
		f.place, f.is = p, fmt.Sprintf("%s at %s; the key is deleted at the end.", what, p.name())
		// Nobody is kept waiting for the end of the demo by a Redis that hangs: the
		// key has a time to live.
		later(func() error { return p.forget(f.key) })
		return true
	}
	if asked != "" && asked != NoRedis {
		if !try(redisPlace{URL: asked}, "the Redis of --redis") {
			return f, errors.New(f.notes[0])
		}
		return f, nil
	}
	if asked == "" {
		if u := os.Getenv("REDIS_URL"); u != "" && try(redisPlace{URL: u}, "the Redis of REDIS_URL") {
			return f, nil
		}
		// Mostly nobody listens there, which is not worth a note.
		conn, err := (&net.Dialer{Timeout: redisTime}).DialContext(ctx, "tcp", strings.TrimPrefix(localRedis, "redis://"))
		if err == nil {
			_ = conn.Close()
			if try(redisPlace{URL: localRedis}, "what listens on 127.0.0.1:6379") {
				return f, nil
			}
		}
		if path, err := exec.LookPath("redis-server"); err == nil {
			socket := filepath.Join(folder, "redis.sock")
			if what, err := startRedis(ctx, path, folder, socket, f.key, later); err != nil {
				f.notes = append(f.notes, err.Error())
			} else {
				f.place, f.is = redisPlace{Socket: socket}, what+", started for this from "+path+"."
				return f, nil
			}
		}
	}
	if ctx.Err() != nil {
		return f, context.Cause(ctx)
	}
	at, err := startStandIn(ctx, later)
	if err != nil {
		return f, err
	}
	f.place = redisPlace{URL: "redis://" + at}
	f.is = "No Redis was found: a stand-in inside this process plays it."
	if asked == NoRedis {
		f.is = "No Redis, as asked: a stand-in inside this process plays it."
	}
	return f, nil
}

// startRedis starts redis-server on a Unix socket in the demo's folder: no port is
// taken, and nobody else reaches it.
func startRedis(ctx context.Context, path, folder, socket, key string, later func(func() error)) (what string, err error) {
	if len(socket) > maxSocket {
		return "", fmt.Errorf("%s was not started: the path of its socket would be too long (set TMPDIR to a shorter one)", path)
	}
	over := make(chan string, 1)
	p, err := launch("redis-server", path, []string{"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--dir", folder, "--daemonize", "no"},
		folder, func(string) {}, func(c change) {
			if c.step == ended {
				over <- c.text
			}
		})
	if err != nil {
		return "", err
	}
	later(p.end)
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	for {
		what, err := redisPlace{Socket: socket}.try(ctx, key)
		if err == nil {
			return what, nil
		}
		select {
		case how := <-over:
			return "", fmt.Errorf("%s ended as it was started: %s", path, how)
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not answer: %w", path, err)
		case <-time.After(askEvery):
		}
	}
}
