// Package pause names the places at which a test may hold, freeze or kill the
// program: pause points.
//
// # Guarantees
//
// In an ordinary build [At] has an empty body and is inlined to nothing, and
// no environment variable changes what the program does. Only a build with
// the tag "pausepoints" (Linux only) is armed; [Armed] says which one this is.
// [Check] lets a program refuse to start when somebody asks an ordinary build
// to pause, or an armed one to pause at a point that does not exist: a test
// whose pause never happens would pass for the wrong reason.
//
// # Hooks, for tests in the same process
//
// In an armed build, Set(t, point, hook) calls hook at every passing of the
// point, in the goroutine that passes, until t's clean-up. Hooks are global to
// the process: a hook sees the passings of every goroutine, those of parallel
// tests too. Several hooks on one point run in the order in which they were
// set. Set does not exist in an ordinary build, so such tests carry the build
// tag and cannot silently test nothing.
//
// # Whole processes, by environment
//
//	S3FENCE_PAUSE=point=action[,point=action...]
//	S3FENCE_PAUSE_DIR=dir
//
// A point is written as its constant is: BeforeCommit. The same point may be
// named several times. An action is one of
//
//	stop   the process stops itself (SIGSTOP); SIGCONT lets it go on
//	kill   the process kills itself (SIGKILL)
//	wait   the passing goroutine blocks until the file dir/point.go exists
//
// followed, in this order, by
//
//	?      counts only passings while the file dir/point.arm exists
//	@n     fires at the n-th counted passing (default 1)
//
// so BeforeCommit=stop?@3 stops at the third passing after the test made
// dir/BeforeCommit.arm. Without "?" an action fires once in the life of the
// process. With "?" firing removes the .arm file, and of all goroutines that
// pass at that moment the one that removed it fires; making the file again
// arms the point again, with a fresh count.
//
// Whenever an action fires and a directory is given, dir/point.hit is made
// first: a test waits for that file to know that the point was reached. When a
// wait ends, .go is removed and then .hit, so that the point can be used again.
// A wait polls every 10 ms; after 10 minutes, when the test that armed it is
// surely gone, the process says so on stderr and kills itself. Give every
// process a directory of its own.
//
// A stopped or killed process executes nothing of the passing goroutine after
// the point: the signal goes to the passing thread itself, which takes it
// before it returns from the system call. Other threads may run for some
// microseconds more.
//
// # What it does not do
//
// It injects no errors and no delays, and it decides nothing: product code
// behaves the same with and without it, only later or not at all.
package pause
