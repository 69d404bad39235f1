package edge

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxOver connections beyond the bounds are answered 503 at one time; further
	// ones are closed unanswered. overTime bounds the life of each.
	maxOver  = 64
	overTime = 5 * time.Second
)

// Listener accepts connections within bounds. It goes below TLS.
type Listener struct {
	net.Listener
	limits Limits
	table  *table
}

// Listen puts bounds on a listener of TCP.
func Listen(l net.Listener, limits Limits) *Listener {
	limits = limits.withDefaults()
	return &Listener{l, limits, &table{most: limits.Connections, perAddress: limits.PerAddress, refused: limits.Refused, addresses: map[netip.Addr]*address{}}}
}

// Accept returns the next connection that may be served, if only with a refusal.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &Conn{Conn: c, pace: newPace(l.limits.Stall, l.limits.MinRate), linger: l.limits.Linger, table: l.table}
		conn.lingers.Store(true)
		if l.table.admit(conn) {
			return conn, nil
		}
		_ = c.Close()
	}
}

// table is what is known of all connections of a listener.
type table struct {
	most, perAddress int
	refused          func(remote net.Addr, why string)

	mu        sync.Mutex
	conns     int
	over      int
	addresses map[netip.Addr]*address
	// waiting has those without a request under way, the longest wait first.
	waiting list.List
}

type address struct {
	name    netip.Addr
	conns   int
	waiting list.List
}

// addressOf is what connections are counted under: an IPv4 address, or the first
// 64 bits of one of IPv6, which is the least that one customer has.
func addressOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := t.AddrPort().Addr().Unmap()
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// admit takes a connection in, if need be in place of one that waits. It is false
// for one that is not even to be told that there are too many.
func (t *table) admit(c *Conn) bool {
	t.mu.Lock()
	name := addressOf(c.RemoteAddr())
	a := t.addresses[name]
	if a == nil {
		a = &address{name: name}
		t.addresses[name] = a
	}
	var victim *Conn
	why := ""
	switch {
	case t.perAddress > 0 && a.conns >= t.perAddress:
		if victim = oldest(&a.waiting); victim == nil {
			why = "too many connections from one address"
		}
	case t.conns >= t.most:
		if victim = oldest(&t.waiting); victim == nil {
			why = "too many connections"
		}
	}
	if why != "" {
		a.forget(t)
		answer := t.over < maxOver
		if answer {
			t.over++
			c.over = true
			c.expiry = time.AfterFunc(overTime, func() { _ = c.Conn.Close() })
		}
		t.mu.Unlock()
		t.tell(c, why)
		return answer
	}
	// Counted before the victim goes, which may be the last of this address.
	t.conns++
	a.conns++
	c.address = a
	if victim != nil {
		t.drop(victim)
	}
	t.push(c)
	t.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
		t.tell(victim, "a connection without a request made room for another")
	}
	return true
}

func (t *table) tell(c *Conn, why string) {
	if t.refused != nil {
		t.refused(c.RemoteAddr(), why)
	}
}

func oldest(l *list.List) *Conn {
	if e := l.Front(); e != nil {
		return e.Value.(*Conn)
	}
	return nil
}

// push and pull are called under the lock.
func (t *table) push(c *Conn) {
	t.pull(c)
	c.inAll, c.inOwn = t.waiting.PushBack(c), c.address.waiting.PushBack(c)
}

func (t *table) pull(c *Conn) {
	if c.inAll != nil {
		t.waiting.Remove(c.inAll)
		c.address.waiting.Remove(c.inOwn)
		c.inAll, c.inOwn = nil, nil
	}
}

// drop forgets a connection, once; it is called under the lock.
func (t *table) drop(c *Conn) {
	if c.gone {
		return
	}
	c.gone = true
	if c.over {
		t.over--
		return
	}
	t.pull(c)
	t.conns--
	c.address.conns--
	c.address.forget(t)
}

// forget keeps no memory of addresses without connections.
func (a *address) forget(t *table) {
	if a.conns == 0 {
		delete(t.addresses, a.name)
	}
}

func (t *table) left(c *Conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(c)
}

func (t *table) waits(c *Conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.gone && !c.over {
		t.push(c)
	}
}

func (t *table) works(c *Conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.gone && !c.over {
		t.pull(c)
	}
}

// Connections is how many connections there are, those apart that are only told
// that there are too many.
func (l *Listener) Connections() int {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return l.table.conns
}
