package mutants

// guardMutants are in the guard list and its lease.
var guardMutants = []Mutant{
	{
		Name: "no-lease", Breaks: "F9",
		What:     "the guard list is used however old it is",
		File:     "internal/guards/list.go",
		Old:      `if h == nil || l.clock.Quickly(h.asked) >= l.lease || l.closed.Load() {`,
		New:      `if h == nil || l.closed.Load() {`,
		CaughtBy: guard("TestLease/over"),
	},
	{
		Name: "lease-through-suspend", Breaks: "F9",
		What:     "the clock that runs while the machine sleeps is not asked",
		File:     "internal/guards/list.go",
		Old:      `l.clock.Since(h.asked) < l.lease`,
		New:      `l.clock.Quickly(h.asked) < l.lease`,
		CaughtBy: guard("TestLease/over_by_the_clock_that_runs_in_suspend_alone"),
	},
	{
		Name: "lease-from-the-answer", Breaks: "F9",
		What: "the lease on the guard list counts from the state's answer",
		File: "internal/guards/list.go",
		Old: `	asked := l.clock.Instant()
	version, list, err := l.registry.RenewGuards(ctx, l.proxy, l.acked, asking)
`,
		New: `	version, list, err := l.registry.RenewGuards(ctx, l.proxy, l.acked, asking)
	asked := l.clock.Instant()
`,
		CaughtBy: guard("TestLeaseCountsFromBeforeAsking"),
	},
	{
		Name: "acknowledged-in-flight", Breaks: "F6",
		What:     "a proxy acknowledges a guard while unguarded writes under it are under way",
		File:     "internal/guards/list.go",
		Old:      `if l.blocking.Load() == 0 && known > l.acked {`,
		New:      `if known > l.acked {`,
		CaughtBy: guard("TestFlightUnderANewGuard"),
	},
	{
		Name: "flights-live-on-the-new-lease", Breaks: "F6",
		What: "an unguarded write that a new guard covers is lent each renewed lease",
		File: "internal/guards/list.go",
		Old: `			f.bound.Store(old)
`,
		New: `			f.bound.Store(nil)
`,
		CaughtBy: guard("TestFlightUnderANewGuard"),
	},
	{
		Name: "lease-lent-for-a-moment", Breaks: "F6",
		What:     "the new lease counts before the flights under the new guard are found",
		File:     "internal/guards/list.go",
		Old:      `l.current.Store(&held{guards, old.asked})`,
		New:      `l.current.Store(&held{guards, asked})`,
		CaughtBy: guard("TestInstallLendsNothing"),
	},
	{
		Name: "read-before-registering", Breaks: "F6",
		What: "a proxy reads the guard list before anybody can know that it must be waited for",
		File: "internal/guards/list.go",
		Old: `	if !l.valid(l.current.Load()) {
		// Without a lease`,
		New: `	if false {
		// Without a lease`,
		CaughtBy: guard("TestRegistersBeforeItReads"),
	},
	{
		Name: "list-goes-back", Breaks: "F9",
		What:     "an older guard list is taken for the present one",
		File:     "internal/guards/list.go",
		Old:      `case version < known:`,
		New:      `case version < 0:`,
		CaughtBy: guard("TestListNeverGoesBack"),
	},
	{
		Name: "activated-without-waiting", Breaks: "F6",
		What: "a guard becomes active without waiting for the proxies",
		File: "internal/guards/add.go",
		Old: `	if err := a.bind(ctx, version); err != nil {
		return fence.Guard{}, err
	}
`,
		New: `	_ = version
`,
		CaughtBy: guard("TestAddWaitsForSilentProxies"),
	},
	{
		Name: "activated-by-two", Breaks: "F6",
		What:     "an attempt to add a guard activates it although another one has taken over",
		File:     "internal/guards/admin.go",
		Old:      `if !ok || row.State != was.State || !row.Created.Equal(was.Created) {`,
		New:      `if !ok || row.State != was.State {`,
		CaughtBy: guard("TestTakenOverDoesNotActivate"),
	},
	{
		Name: "counter-not-lifted", Breaks: "F2",
		What:     "a guard with tokens of our own is activated with the counter below its marks",
		File:     "internal/guards/add.go",
		Old:      `if highest > 0 {`,
		New:      `if highest < 0 {`,
		CaughtBy: guard("TestActivationLiftsTheCounter"),
	},
	{
		Name: "removed-with-objects", Breaks: "F6",
		What: "a guard goes although something was written under it since the first look",
		File: "internal/guards/remove.go",
		Old: `	if err := a.empty(ctx, g); err != nil {
		return a.restore(ctx, g, err)
	}
	if err := a.dropUploads(ctx, g); err != nil {`,
		New:      `	if err := a.dropUploads(ctx, g); err != nil {`,
		CaughtBy: guard("TestRemoveLooksAgainAfterTheStop"),
	},
}

func guard(name string) Test { return Test{Package: "internal/guards", Name: name} }
