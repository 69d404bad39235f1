package mutants

// exportMutants are in leaving a guard.
var exportMutants = []Mutant{
	{
		Name: "signed-now", Breaks: "F6",
		What:     "an exporter signs with the time of sending, not with one from before it saw that the guard is its own",
		File:     "internal/sealed/export_settle.go",
		Old:      `p.client, p.asked = e.client.At(date), asked`,
		New:      `p.client, p.asked = e.client.At(date.Add(time.Since(asked))), asked`,
		CaughtBy: sealed("TestExporterFrozenBeforeItSigns"),
	},
	{
		Name: "expiry-not-awaited", Breaks: "F6",
		What: "a guard goes while the store still takes what another exporter sent",
		File: "internal/sealed/export_settle.go",
		Old: `	if err := e.expire(ctx); err != nil {
		return guarded.Pass{}, err
	}
`,
		New:      ``,
		CaughtBy: sealed("TestLateChangesOfAnotherExporter/copy"),
	},
	{
		Name: "lost-answer-forgotten", Breaks: "F6",
		What: "a change of a plain key without an answer is taken for over",
		File: "internal/sealed/export_settle.go",
		Old: `	default:
		e.doubt(key)
`,
		New: `	default:
`,
		CaughtBy: sealed("TestExportWithLostAnswers"),
	},
	{
		Name: "tags-by-attempt", Breaks: "F6",
		What:     "tags that are set while an export runs are not exported",
		File:     "internal/sealed/export.go",
		Old:      `return st.attempt == want.attempt && sameTags(st.tags, want.tags)`,
		New:      `return st.attempt == want.attempt`,
		CaughtBy: sealed("TestTagsSetDuringExport"),
	},
	{
		Name: "resurrected", Breaks: "F6",
		What:     "plain keys whose object was deleted in the scope stay",
		File:     "internal/sealed/export.go",
		Old:      `if !e.opts.Delete {`,
		New:      `if true {`,
		CaughtBy: sealed("TestExportAndReturn/memory"),
	},
	{
		Name: "writers-not-stopped", Breaks: "F6",
		What:     "writers go on in the last pass of an export",
		File:     "internal/guards/export.go",
		Old:      `g.State, g.Created = fence.Removing, stamp(v.Now, g.Created)`,
		New:      `g.Created = stamp(v.Now, g.Created)`,
		CaughtBy: sealed("TestExportThatFailsWhileClosed/the_guard_is_added_again"),
	},
	{
		Name: "list-over-the-end", Breaks: "F6",
		What: "a list that straddles the end of a guard shows nothing of it",
		File: "internal/sealed/list.go",
		Old: `		if _, ok := v.Guards[id]; !ok {
			return`,
		New: `		if _, ok := v.Guards[id]; !ok && false {
			return`,
		CaughtBy: sealed("TestListThatStraddlesTheEnd"),
	},
	{
		Name: "rows-without-a-guard-shown", Breaks: "F6",
		What: "lists show rows that outlived their guard",
		File: "internal/sealed/list.go",
		Old: `		_, _, ok := r.guards.Find(o.Bucket, o.Key)
		return !ok
`,
		New: `		return false
`,
		CaughtBy: sealed("TestRowsThatOutliveTheirGuard/collector"),
	},
	{
		Name: "tidied-under-a-guard", Breaks: "F6",
		What:     "rows are dropped as left over although a guard governs them",
		File:     "internal/sealed/export_settle.go",
		Old:      `!governed && v.Objects[ref] != nil {`,
		New:      `(!governed || true) && v.Objects[ref] != nil {`,
		CaughtBy: sealed("TestTidyLeavesRowsToTheirGuard"),
	},
}
