// Package sim runs the product against everything that may go wrong, in one process
// and in an order that a number decides.
//
// Two or three proxies, each with its real handlers, locks, guard list, sealed index
// and collector, stand over one state in memory, one store, one network and clocks
// that are all simulated. Clients and an operator work through them with signed
// requests; a schedule ([Plan]) says what they do and what goes wrong. What clients
// were told is judged by package history, and what stands in state and store is
// looked at directly (see [Check]).
//
// # One seed, one order
//
// A run lives in a bubble of testing/synctest: its clock is fake. Every message
// between two parts is a step (world.step): the goroutine that wants to take it
// waits, and only when all others wait too, one is picked, by a rank that is drawn
// from the seed, the step's name and how often that was taken. So what happens
// between two steps happens alone, and the same seed gives the same trace
// (TestOneSeedOneTrace). Names have nothing in them that is random in the product:
// physical keys and upload ids are called after their objects.
//
// Where goroutines of one proxy are woken together (the requests that shared a read)
// they pass a step before they meet in a queue again: sealed.Options.Turn. Timers of
// different steps never go off at one moment, since each step takes a time of its own.
//
// # What a run does not have
//
// Sockets, HTTP framing, the limits on connections (package edge), the event log, the
// configuration, PostgreSQL itself: its locks, time-outs and lost answers are those of
// package memory, which internal/statetest holds to the same contract. A crash loses no
// memory that a disk should have kept: neither state nor store has one.
//
// docs/simulation.md says how to run it and how to read what it found.
package sim
