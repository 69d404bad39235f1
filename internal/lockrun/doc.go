// Package lockrun runs a command for as long as a lock is held: it starts it in a
// process group of its own, hands it the terminal, passes signals on, and ends the
// whole group when the lock is lost.
//
// It knows processes and no locks: that a lock is lost, a context says, and a
// function is asked whether it still is ours. Words and exit codes of the command
// line are the caller's.
//
// # What the command sees
//
//   - Standard input, output and error, and every descriptor that was inherited, are
//     handed down as they are; nothing stands between.
//   - It leads a process group of its own. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGWINCH
//     that come here go to that group, as a terminal's would, SIGUSR1, SIGUSR2 and
//     SIGALRM to the command alone: those end whoever does not expect them.
//   - On Linux it is sent SIGTERM when this process dies (not where the command is
//     setuid: the kernel forgets it there). Its children are not told.
//
// # The terminal
//
// Where standard input and output are the terminal, and this process is in the
// foreground, the command has the terminal from its first instruction. Otherwise
// it gets it when it asks, by reading or by changing its modes: in a pipeline the
// other members may want it first. It is taken back when the command stops or ends,
// with the modes as they were if it was ended by force.
//
// A command that the terminal stops (Ctrl-Z) stops this process too, so that the
// shell gets its prompt. Before the command is continued, the caller is asked
// whether the lock is still held; if it is not, the command is ended instead.
//
// A command with the terminal that is interrupted (Ctrl-C) is the only one the
// terminal told: [Exit.Pass] has this process and its group end by SIGINT as well,
// so that a script does not go on with its next line.
//
// # Ending a group
//
// SIGTERM and SIGCONT, since what is stopped must wake up to end; the grace; then
// SIGKILL. With the terminal, SIGHUP as well: interactive shells ignore SIGTERM, and
// on SIGHUP they take their jobs along, which have groups of their own. The command
// is not reaped before, so that its number cannot name anybody else's group.
//
// Where SIGTERM was passed on and ended the command, the rest of the group is waited for
// as well, for the grace at most: it was told to end and may be at its last write. A
// command that ends otherwise may leave processes behind; they run on.
//
// What leaves the group (setsid, daemons) is not found, and what another user owns
// cannot be ended. Both have credentials whose token is stale once somebody else has
// the lock: what protects the data is the fence, not this package.
package lockrun
