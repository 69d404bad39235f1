package mutants

// lockMutants are in the lock service and in the client that holds a lock.
var lockMutants = []Mutant{
	{
		Name: "grant-raises-nothing", Breaks: "F2, F4",
		What:     "a grant leaves the mark of its scope where it was",
		File:     "internal/locks/acquire.go",
		Old:      `row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: token}`,
		New:      `row.Mark.Generation = row.Mark.Current()`,
		CaughtBy: lock("TestLifeOfALock"),
	},
	{
		Name: "mark-rises-after-the-grant", Breaks: "F2, F4",
		What: "the mark rises in a transaction of its own after that of the grant",
		File: "internal/locks/acquire.go",
		Old: `			c := state.Changes{Scopes: []state.Scope{row}, Retries: r.remember(lease)}
`,
		New: `			c := state.Changes{Scopes: []state.Scope{row}, Retries: r.remember(lease)}
			c.Scopes[0].Mark = was.Mark
			defer func() {
				time.AfterFunc(time.Millisecond, func() {
					_ = state.Run(context.Background(), s.state, &state.Tx{
						Scopes: []state.ScopeLock{{Scope: r.Scope, Mode: state.Exclusive}},
						Decide: func(v *state.View) (state.Changes, error) {
							now := v.Scope(r.Scope, g.Writes)
							now.Mark = row.Mark
							return state.Changes{Scopes: []state.Scope{now}}, nil
						},
					})
				})
			}()
`,
		CaughtBy: lock("TestGrantCommitsItsMark"),
	},
	{
		Name: "token-of-another-grant", Breaks: "F2",
		What:     "a drawn token that equals the mark is granted",
		File:     "internal/locks/acquire.go",
		Old:      `if token <= row.Mark.Token || token > fence.MaxGranted {`,
		New:      `if token < row.Mark.Token || token > fence.MaxGranted {`,
		CaughtBy: lock("TestCounterBehind"),
		Missed:   true,
	},
	{
		Name: "granted-on-a-look", Breaks: "none: two hold the lock",
		What: "whether the lock is free is looked at before the transaction and not in it",
		File: "internal/locks/acquire.go",
		Old: `			if !force {
				if err := r.refused(v, g, &row); err != nil {`,
		New: `			if !force && r.Retry != nil {
				if err := r.refused(v, g, &row); err != nil {`,
		CaughtBy: lock("TestContention"),
	},
	{
		Name: "renewed-after-its-end", Breaks: "none: two hold the lock",
		What: "a lease that is over by the database's clock is renewed",
		File: "internal/locks/holder.go",
		Old: `		if !row.Held(v.Now) {
			return false, lostError(row, token, v.Now)
		}`,
		New:      ``,
		CaughtBy: lock("TestExpiredAndNotReplaced"),
	},
	{
		Name: "renewed-by-another", Breaks: "F8",
		What:     "whoever knows a token renews and releases its lease",
		File:     "internal/locks/holder.go",
		Old:      `case row.Last.Holder != holder:`,
		New:      `case row.Last.Holder != holder && holder == "":`,
		CaughtBy: lock("TestLifeOfALock"),
	},
	{
		Name: "renewed-under-an-old-token", Breaks: "none: the old holder goes on",
		What:     "a lease is renewed under any token that was granted before",
		File:     "internal/locks/holder.go",
		Old:      `case token < row.Mark.Token:`,
		New:      `case token < row.Mark.Token && row.LeaseUntil.IsZero():`,
		CaughtBy: lock("TestLifeOfALock"),
	},
	{
		Name: "release-forgets-the-scope", Breaks: "F1",
		What: "a release writes the scope as if it had never been locked",
		File: "internal/locks/holder.go",
		Old: `		released = !row.LeaseUntil.IsZero()
		row.LeaseUntil, row.TTL = time.Time{}, 0`,
		New: `		released = !row.LeaseUntil.IsZero()
		*row = state.NewScope(sc, row.Writes)`,
		CaughtBy: lock("TestLifeOfALock"),
	},
	{
		Name: "raise-without-lift", Breaks: "F2",
		What: "the counter stays below a number that an operator raised a mark to",
		File: "internal/locks/marks.go",
		Old: `		if to != 0 {
			if err := v.Lift(to); err != nil {`,
		New: `		if to != 0 && row.Mark.Token == 0 {
			if err := v.Lift(to); err != nil {`,
		CaughtBy: lock("TestRaise"),
	},
	{
		Name: "raise-keeps-the-lease", Breaks: "none: a stale holder renews",
		What: "a mark that is raised by hand leaves the lease to its holder",
		File: "internal/locks/marks.go",
		Old: `			row.LeaseUntil, row.TTL = time.Time{}, 0
`,
		New:      ``,
		CaughtBy: lock("TestRaise"),
	},
	{
		Name: "check-without-generation", Breaks: "F8",
		What:     "a token from before a reset is told to be good if its number is high enough",
		File:     "internal/locks/marks.go",
		Old:      `case generation != now && (generation != 0 || now != fence.FirstGeneration):`,
		New:      `case generation != now && generation != 0:`,
		CaughtBy: lock("TestCheckAsksForTheGeneration"),
	},
	{
		Name: "witness-not-waited-for", Breaks: "F2, after a restore",
		What:     "a grant is answered although its witness does not stand",
		File:     "internal/locks/acquire.go",
		Old:      `if s.witness == nil || ctx.Err() != nil {`,
		New:      `if true || s.witness == nil || ctx.Err() != nil {`,
		CaughtBy: lock("TestWitness"),
	},
	{
		Name: "two-claims-of-a-slot", Breaks: "none: a job runs twice",
		What:     "whether a slot is claimed is looked at before the transaction and not in it",
		File:     "internal/postgres/locks.go",
		Old:      `modes[lockID(slotDomain, s.Job, s.Name)] = true`,
		New:      `modes[lockID(slotDomain, s.Job, s.Name)] = false`,
		CaughtBy: contract("locks", "slot: the same"),
	},
	{
		Name: "hold-from-the-answer", Breaks: "none: a holder works beyond its lease",
		What:     "a client counts a renewed lease from the answer instead of from before it asked",
		File:     "client/keep.go",
		Old:      `h.lease, h.asked, h.lasts, h.failed = r.lease, asked, r.left-margin(h.ttl), nil`,
		New:      `h.lease, h.asked, h.lasts, h.failed = r.lease, h.clock.Instant(), r.left-margin(h.ttl), nil`,
		CaughtBy: Test{Package: "client", Name: "TestHoldCountsFromBeforeItAsked"},
	},
	{
		Name: "hold-revived", Breaks: "none: a holder works beyond its lease",
		What:     "a renewal that is answered after the lease may have been over revives the hold",
		File:     "client/keep.go",
		Old:      `if h.ctx.Context.Err() != nil || h.clock.Since(h.asked) >= h.lasts {`,
		New:      `if h.ctx.Context.Err() != nil {`,
		CaughtBy: Test{Package: "client", Name: "TestHoldSuspended"},
	},
}

func lock(name string) Test { return Test{Package: "internal/locks", Name: name} }
