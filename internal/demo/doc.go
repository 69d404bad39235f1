// Package demo plays the story that s3fence exists for, with real processes: a
// lock holder freezes, another one takes over and writes, the first wakes up and
// finishes its write.
//
// Two workers, ann and bob, are processes of their own. Each has the same job:
// take the lock, read one object, add a line, see that the lock is still its own,
// write, give the lock back. The director (the process that runs [Run]) freezes
// ann with SIGSTOP between the last two steps but one, for longer than her lease.
//
//   - Act 1: the lock is the recipe for Redis, SET key value NX PX ttl with a
//     release that compares before it deletes, and writes go straight to the
//     store. ann's write lands on bob's.
//   - Act 2: the same through a proxy with its own lock service, the fencing token
//     sent with each write. ann's late write is refused.
//
// # Guarantees
//
//   - What is told was seen: verdicts are computed from what the store holds and
//     what the workers were answered. When an act ends otherwise than it should,
//     [Run] says so and fails with [ErrUnexpected].
//   - The order of the story rests on messages between the processes and on what
//     the kernel reports of them (stopped, ended), never on pauses. The
//     pauses there are let people read.
//   - Nothing else is needed, and nothing stays: state and objects lie in a
//     temporary folder, the servers listen on loopback. However the demo ends, by
//     an interrupt, a closed terminal or a closed pipe too, its processes are ended
//     and the folder is removed. Only SIGKILL leaves the folder; the workers end
//     even then.
//   - Of a Redis that is found, one random key with a time to live is used, and
//     deleted at the end.
//
// # What it does not do
//
// It proves nothing about the rule: that is what the tests of the other packages
// are for. It does not run on Windows, which cannot freeze a process.
package demo
