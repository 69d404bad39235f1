// Package proxy wires the rooms into one program: configuration, state, stores,
// keys, guards, ways to write, the two APIs and their listeners. The command and
// the tests that need a whole proxy use it alike. It has no rule of its own.
//
// # Start
//
// [New] opens and checks everything that can be checked without being seen by
// others: state and its schema, each store with its credentials and buckets, the
// rules of the configured guards, certificates, the ports. Where one fails the
// error says which and what to do, and whatever was opened is closed again.
// [Proxy.Run] then takes the lease on the guard list, adds the configured guards,
// and only after that answers clients; until then their connections wait.
//
// # End
//
// When the context of Run ends, no connection is accepted any more, running
// requests are waited for as long as the configuration says and cut after that,
// the lease on the guard list is given back so that nobody waits for this proxy,
// and the state is closed last. Each step is bounded. A proxy that is killed
// instead leaves nothing that others need: its lease ends by itself.
//
// # Connections
//
// They are package edge's: how many, how fast, and how they end. Requests that
// nobody vouches for are logged summed up; see log.go.
//
// # What it does not do
//
// It parses no files and no flags (package config, cmd/proxy). It does not
// restart what failed: a lost state or store shows in the answers and in
// /readyz, and heals by itself when the other side is back.
package proxy
