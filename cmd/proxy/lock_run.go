package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/lockrun"
)

// Exit codes of lock run where it is not the command's own. Scripts rely on them.
const (
	exitRunHeld        = 75 // EX_TEMPFAIL: try again later
	exitRunLost        = 76
	exitRunUnreachable = 69 // EX_UNAVAILABLE
)

// defaultGrace is what a command has to end by itself once the lock is lost.
const defaultGrace = 10 * time.Second

func newLockRun() *cobra.Command {
	j := job{held: exitRunHeld}
	var wait time.Duration
	c := &cobra.Command{
		Use:   "run [flags] SCOPE -- CMD [ARG]…",
		Short: "Run a command while holding a lock",
		Long: `run takes the lock of a scope, runs CMD, and gives the lock back. While CMD runs the
lock is renewed. If it is lost all the same, CMD is ended with every process of its
group: SIGTERM, and SIGKILL after --grace. What it still sends by then is refused.

CMD needs no change. Its environment has fenced credentials, and every request that
is signed with them carries the lock's token inside SCOPE:

  aws CLI, SDKs   as they are: AWS_*, AWS_ENDPOINT_URL_S3 (with an address instead of
                  a name over http, so that buckets stand in the path). AWS_PROFILE
                  and others that would win over them are dropped
  rclone          the remote s3fence:, as in rclone sync dir s3fence:BUCKET/DIR
  mc              the alias s3fence, as in mc cp file s3fence/BUCKET/DIR/
  s3cmd           takes the credentials, and no endpoint: add --host and --host-bucket
                  both as ${S3FENCE_ENDPOINT#*://}, --region=$AWS_REGION and, over
                  http, --no-ssl; there must be no ~/.s3cfg with keys of its own
  scripts         S3FENCE_SCOPE, S3FENCE_TOKEN, S3FENCE_ENDPOINT

A lock that is held is waited for, for ever if --wait does not say how long, and
first come is first served; --wait 0 does not wait. --force takes it at once from
whoever has it, whose writes are refused from then on: for a job that runs away.

CMD has the terminal, Ctrl-C and Ctrl-Z included, so shells work; signals that come
here are passed on to it. Processes that it leaves behind run on, without the lock.

--claim JOB --slot TIME claims that run of a job right before CMD starts. Of all who
try the same slot one runs CMD, once, whatever becomes of it; the others end with 75.
` + aboutSlots + `

Exit code: that of CMD, 128+n if signal n ended it. Else
   75  the lock is held, or the wait is over, or the slot is claimed (-E changes it)
   76  the lock was lost while CMD ran
   69  s3fence cannot be reached
  126  CMD cannot be run, 127  it is not found: looked up before anything else
    2  usage
    1  any other error`,
		Example: `  s3fence lock run s3://data/jobs/nightly/ -- ./nightly.sh
  s3fence lock run --wait 10m s3://data/site/ -- aws s3 sync --delete site s3://data/site/
  s3fence lock run -q --wait 0 -E 0 s3://data/jobs/hourly/ -- ./hourly.sh    # cron: skip it if the last one still runs
  s3fence lock run --claim report --slot 1h s3://data/reports/ -- ./report.sh
  s3fence lock run --force --reason 'runs since Friday' s3://data/jobs/ -- bash`,
		RunE: func(c *cobra.Command, args []string) error {
			at := c.ArgsLenAtDash()
			switch {
			case at < 0:
				return usage("%s needs -- before the command: s3fence lock run SCOPE -- CMD", c.CommandPath())
			case at != 1:
				return usage("%s takes one scope before the --: s3fence lock run SCOPE -- CMD", c.CommandPath())
			case len(args) == at:
				return usage("%s: no command stands behind the --", c.CommandPath())
			}
			if c.Flags().Changed("wait") {
				j.wait = &wait
			}
			j.scope, j.args = args[0], args[at:]
			if err := j.check(); err != nil {
				return err
			}
			return j.run(c)
		},
	}
	f := c.Flags()
	f.DurationVar(&wait, "wait", 0, "how long to wait for a lock that is held; 0 does not wait (default: for ever)")
	f.DurationVar(&j.ttl, "ttl", 0, "length of the lease, 1s to 24h: how long an outage is survived, and how long the lock stays held if this machine dies (default 30s)")
	f.StringVar(&j.owner, "owner", ownerLabel(), "who holds it, for people to read")
	f.BoolVar(&j.force, "force", false, "take the lock whoever holds it; needs --reason and the right admin")
	f.StringVar(&j.reason, "reason", "", "why it is taken by force, for people to read")
	f.DurationVar(&j.grace, "grace", defaultGrace, "time between SIGTERM and SIGKILL once the lock is lost")
	f.IntVarP(&j.held, "conflict-exit-code", "E", exitRunHeld, "exit `code` when the lock is held, or the slot claimed")
	f.StringVar(&j.claim, "claim", "", "run only if this run of a `job` was not claimed; with --slot")
	f.StringVar(&j.slotText, "slot", "", "which run it is: a `time`, a label, or a length as 5m for the nearest multiple of it")
	f.BoolVarP(&j.quiet, "quiet", "q", false, "say only what went wrong; with -E 0 a lock that is held, or a claimed slot, did not")
	return c
}

// check judges what was typed, before anything is asked.
func (j *job) check() error {
	switch {
	case j.wait != nil && *j.wait < 0:
		return usage("--wait %v is negative; 0 does not wait", *j.wait)
	case j.force && j.wait != nil && *j.wait > 0:
		return usage("--force does not wait; leave --wait out")
	case j.force && j.reason == "":
		return usage("taking a lock by force needs --reason")
	case !j.force && j.reason != "":
		return usage("--reason belongs to --force")
	case j.grace < 0:
		return usage("--grace %v is negative; 0 kills at once", j.grace)
	case j.held < 0 || j.held > 255:
		return usage("-E %d is no exit code: 0 to 255", j.held)
	case (j.claim == "") != (j.slotText == ""):
		return usage("--claim and --slot belong together")
	}
	if j.claim != "" {
		var err error
		if j.slot, j.slotWarning, err = slotOf(j.slotText, time.Now()); err != nil {
			return err
		}
	}
	var err error
	if j.path, err = lockrun.Look(j.args[0]); err != nil {
		return cannotRun(err)
	}
	return nil
}
