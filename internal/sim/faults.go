package sim

import "time"

// strike is a fault of the schedule.
func (c *cluster) strike(f Fault) {
	m := c.machines[f.Who%len(c.machines)]
	until := func(at *time.Time) {
		c.w.mu.Lock()
		*at = time.Now().Add(f.For)
		c.w.mu.Unlock()
	}
	switch f.Kind {
	case FreezeProxy:
		c.w.mu.Lock()
		p := m.proxy
		c.w.mu.Unlock()
		if p != nil {
			c.w.freeze(p.actor, f.For)
		}
	case FreezeClient:
		c.w.freeze(c.clients[f.Who%len(c.clients)].actor, f.For)
	case Crash:
		m.crash()
		time.AfterFunc(f.For, func() {
			if m.down() && !c.w.isQuiet() {
				m.start()
			}
		})
	case CutState:
		until(&m.noState)
	case CutStore:
		until(&m.noStore)
	case StateDown:
		until(&c.db.down)
	case ProxyClock:
		m.clock.Add(int64(f.By))
		m.ahead.Add(int64(max(0, f.By)))
	case StateClock:
		c.db.clock.Add(int64(f.By))
	case StoreClock:
		c.store.turnClock(f.Who, f.By)
	}
}

func (m *machine) down() bool {
	m.c.w.mu.Lock()
	defer m.c.w.mu.Unlock()
	return m.proxy == nil
}

func (w *world) isQuiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.quiet
}

func (s *store) actor() *actor { return s.taker }

// turnClock sets the clock of a node on or back.
func (s *store) turnClock(node int, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks[node%len(s.clocks)] += by
}

func (s *store) setClocks(a, b time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks = [2]time.Duration{a, b}
}
