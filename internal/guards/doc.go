// Package guards keeps the guard list: each proxy's leased copy of it ([List]),
// and the changes to it ([Admin]).
//
// # The lease
//
// A proxy decides from its own copy of the list whether a key is guarded, so a
// guard that was just added does not bind a proxy that has not heard of it. Two
// things close that gap. The copy is good only under a lease, by the proxy's
// own clock and counted from before it asked; past it every mutation is refused
// (F9). And whoever adds a guard first commits it as pending and waits until
// every proxy has acknowledged that version of the list, or cannot hold a lease
// on an older one any more. Only then are existing objects taken in.
//
// Mutations outside every guard are registered as a [Flight] while they run.
// A flight asks StillValid before it sends and before it answers success. A
// proxy acknowledges a version when none of its flights is covered by a guard
// of it. A flight that turns out to be covered is bound by the last lease whose
// list did not cover it, whatever is renewed since: so one whole lease after a
// guard was committed no flight under it can answer success any more, not in a
// proxy that is alive, nor in one that was frozen and wakes.
//
// # Why one lease is enough for sealed guards
//
// Existing objects are adopted by copying them, after the wait. A write that was
// acknowledged passed StillValid after the store had answered, so its bytes
// stood in the store before the wait was over, and the adoption sees them (F6).
// A write whose request is still under way then is never acknowledged; if its
// bytes arrive late they land under a plain key that nobody resolves any more.
// Guards whose objects keep their names need more than that: there a late
// request reaches the very object.
//
// # Leaving
//
// [Admin.Export] orders an export: passes while the guard is active, settling, a last
// pass while it is removing, and its end. The stamp in the guard's row (Created) is
// whose the export is. How bytes move, and how late requests are kept from plain
// keys, is the [guarded.Mover]'s.
//
// # Clocks
//
// A lease is judged by whichever of three clocks shows the most time gone: the
// monotonic one, the wall clock, and the one that runs while the machine
// sleeps. A wall clock that is set back cannot lengthen a lease; one that is set
// forward ends it early. Waiting for the lease of others is measured by the
// monotonic clock alone, which never shows more than really passed, with a
// tenth and a second added for clocks that run slow. A proxy's last sign of
// life, by the database's clock, is believed only after an hour, since that
// clock may be set.
//
// # Assumptions
//
//   - All proxies of a deployment have the same lease; the wait of [Admin] uses
//     the one it was given.
//   - While a virtual machine is stopped by its host, some clock of the guest
//     goes on or is set on waking. Where none is, such a proxy does not notice
//     that its lease is over until its next renewal.
//   - Adoption keeps to [Adopter]'s contract.
//
// # Failures
//
// If the state cannot be asked the lease runs out and mutations are refused
// until it can; a [List] never guesses. If a process dies within Add the guard
// stays pending and refuses writes; adding the same rule again, from any proxy,
// takes the work over. If it dies within Remove the guard stays removing;
// removing it again goes on, adding it again brings it back.
//
// # Not here
//
// Which operations a guard lets through (package fence), moving bytes (package
// sealed), HTTP.
package guards
