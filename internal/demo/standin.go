package demo

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
)

// standIn answers what the recipe asks of a Redis, and nothing else: SET key value
// NX PX ms, GET, the compare-and-delete script, DEL. Keys end by the clock of this
// process.
type standIn struct {
	mu   sync.Mutex
	keys map[string]standInKey
	// open are the connections; nil once it ends.
	open map[net.Conn]bool
}

type standInKey struct {
	value string
	until time.Time
}

// startStandIn serves a stand-in on a loopback port.
func startStandIn(ctx context.Context, later func(func() error)) (at string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("the stand-in for Redis: %w", err)
	}
	s := &standIn{keys: map[string]standInKey{}, open: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if s.enter(c) {
					s.serve(c)
				}
			})
		}
	})
	later(func() error {
		err := l.Close()
		s.mu.Lock()
		for c := range s.open {
			_ = c.Close()
		}
		s.open = nil
		s.mu.Unlock()
		serving.Wait()
		return err
	})
	return l.Addr().String(), nil
}

// enter is false once the stand-in ends.
func (s *standIn) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[c] = true
	return true
}

// serve answers one connection until it ends. A command has the form of an answer,
// so the client's reader reads it.
func (s *standIn) serve(c net.Conn) {
	in := redis.NewConn(c, 0, 0)
	for {
		command, err := redis.Strings(in.Receive())
		if err != nil {
			return
		}
		if _, err := c.Write([]byte(s.answer(command))); err != nil {
			return
		}
	}
}

// Answers of the protocol.
const (
	done    = "+OK\r\n"
	nothing = "$-1\r\n"
)

func (s *standIn) answer(command []string) string {
	if len(command) == 0 {
		return "-ERR no command\r\n"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.keys {
		if !time.Now().Before(v.until) {
			delete(s.keys, k)
		}
	}
	switch name, args := strings.ToUpper(command[0]), command[1:]; {
	case name == "SET" && len(args) == 5 && strings.EqualFold(args[2], "NX") && strings.EqualFold(args[3], "PX"):
		ms, err := strconv.ParseInt(args[4], 10, 64)
		if err != nil || ms <= 0 {
			return "-ERR invalid expire time\r\n"
		}
		if _, there := s.keys[args[0]]; there {
			return nothing
		}
		s.keys[args[0]] = standInKey{args[1], time.Now().Add(time.Duration(ms) * time.Millisecond)}
		return done
	case name == "GET" && len(args) == 1:
		v, there := s.keys[args[0]]
		if !there {
			return nothing
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", len(v.value), v.value)
	case name == "EVAL" && len(args) == 4 && args[0] == compareAndDelete && args[1] == "1":
		if v, there := s.keys[args[2]]; !there || v.value != args[3] {
			return ":0\r\n"
		}
		delete(s.keys, args[2])
		return ":1\r\n"
	case name == "DEL" && len(args) == 1:
		_, there := s.keys[args[0]]
		delete(s.keys, args[0])
		if there {
			return ":1\r\n"
		}
		return ":0\r\n"
	}
	return fmt.Sprintf("-ERR the stand-in does not know %q\r\n", command)
}
