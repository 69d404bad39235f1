package mutants

// commitMutants are in the sealed way to write: what is judged, committed,
// remembered, read and collected.
var commitMutants = []Mutant{
	{
		Name: "no-raise", Breaks: "F4, F5",
		What:     "the first request under a higher external token does not raise the mark",
		File:     "internal/sealed/commit.go",
		Old:      `row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: op.request.Token}`,
		New:      `row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: row.Mark.Token}`,
		CaughtBy: sealed("TestTokensThatCannotBe"),
	},
	{
		Name: "compare-before-lock", Breaks: "F4",
		What: "the token is compared with a mark that was read before the locks were taken",
		File: "internal/sealed/batch.go",
		Old: `	var learnt []state.Scope
	var now time.Time
	tx.Decide = func(v *state.View) (state.Changes, error) {
`,
		New: `	var learnt []state.Scope
	var now time.Time
	var early state.Query
	for s := range scopes {
		early.Scopes = append(early.Scopes, s)
	}
	seen, err := c.state.Read(context.Background(), early)
	if err != nil {
		return nil, err
	}
	tx.Decide = func(v *state.View) (state.Changes, error) {
		v.Scopes = seen.Scopes
`,
		CaughtBy: sealed("TestWriteThatWaitsIsJudgedByTheNewMark"),
		Missed:   true,
	},
	{
		Name: "guard-of-the-old-list", Breaks: "F9",
		What: "a write under a guard that is gone is judged by what the proxy knew of it",
		File: "internal/sealed/commit.go",
		Old: `	g, ok := v.Guards[op.guard.ID]
	if !ok || g.Writes != fence.Sealed {`,
		New: `	g, ok := v.Guards[op.guard.ID]
	if !ok {
		g = *op.guard
	}
	if g.Writes != fence.Sealed {`,
		CaughtBy: sealed("TestGuardIsReadInTheCommit"),
		Missed:   true,
	},
	{
		Name: "rule-of-the-old-list", Breaks: "F9",
		What:     "a write is judged by the guard as the proxy knew it, not as it is in the transaction",
		File:     "internal/sealed/commit.go",
		Old:      `verdict := fence.Judge(&g, row.Mark, op.request)`,
		New:      `verdict := fence.Judge(op.guard, row.Mark, op.request)`,
		CaughtBy: sealed("TestGuardIsReadInTheCommit"),
		Missed:   true,
	},
	{
		Name: "condition-before-commit", Breaks: "F10",
		What: "If-Match and If-None-Match are evaluated before the transaction, on what was read then",
		File: "internal/sealed/put.go",
		Old: `		if err := cond.CheckWrite(infoOf(v.Objects[info.Ref])); err != nil {
			return err
		}
		info.Modified = v.Now
		if up != nil {
			done := *up
			done.Completed, done.ETag, done.Size, done.Attributes = true, info.ETag, info.Size, info.Attributes
			ch.PutUploads = append(ch.PutUploads, done)
		}
		ch.PutObjects = append(ch.PutObjects, state.Object{
			Info: info, Scope: op.Scope, Token: op.Request.Token, Attempt: nm.Attempt, Physical: nm.Key,
		})
		if len(st.parts) > 0 {
			ch.PutParts = append(ch.PutParts, state.ObjectParts{Attempt: nm.Attempt, Parts: st.parts})
		}
		return nil
	}
`,
		New: `		info.Modified = v.Now
		if up != nil {
			done := *up
			done.Completed, done.ETag, done.Size, done.Attributes = true, info.ETag, info.Size, info.Attributes
			ch.PutUploads = append(ch.PutUploads, done)
		}
		ch.PutObjects = append(ch.PutObjects, state.Object{
			Info: info, Scope: op.Scope, Token: op.Request.Token, Attempt: nm.Attempt, Physical: nm.Key,
		})
		if len(st.parts) > 0 {
			ch.PutParts = append(ch.PutParts, state.ObjectParts{Attempt: nm.Attempt, Parts: st.parts})
		}
		return nil
	}
	early, err := s.reads.read(context.Background(), state.Query{Objects: []object.Ref{info.Ref}})
	if err != nil {
		return object.Info{}, err
	}
	if err := cond.CheckWrite(infoOf(early.Objects[info.Ref])); err != nil {
		return object.Info{}, err
	}
`,
		CaughtBy: sealed("TestConditionalWritersThatMeet"),
	},
	{
		Name: "one-name-twice-in-a-batch", Breaks: "F7",
		What:     "two requests of one Idempotency-Key share a transaction, and neither finds the other",
		File:     "internal/sealed/batch.go",
		Old:      `other != nil && other != op.named {`,
		New:      `other != nil && other == op.named {`,
		CaughtBy: sealed("TestRequestsOfOneNameDoNotShareATransaction"),
	},
	{
		Name: "physical-key-reused", Breaks: "F4, F6",
		What: "each write of an object has the same physical key",
		File: "internal/sealed/put.go",
		Old: `		nm := s.names.fresh(p.Scope, row.Epoch, state.NewID())
		// Until`,
		New: `		nm := s.names.fresh(p.Scope, row.Epoch, md5.Sum([]byte(p.Key)))
		// Until`,
		CaughtBy: sealed("TestStaleTokenIsRefused"),
	},
	{
		Name: "horizon-not-compared", Breaks: "F6",
		What: "a commit takes a name that the collector may be deleting",
		File: "internal/sealed/put.go",
		Old: `			if nm.Epoch < row.Horizon {
				return errOldName
			}
		} else if`,
		New:      `		} else if`,
		CaughtBy: sealed("TestOldNameIsRefused"),
	},
	{
		Name: "horizon-not-locked", Breaks: "F6",
		What:     "the horizon is raised under the shared lock, beside commits that have compared it",
		File:     "internal/sealed/collect.go",
		Old:      `tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}}, Wait: lockWait}`,
		New:      `tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Shared}}, Wait: lockWait}`,
		CaughtBy: sealed("TestCollector"),
	},
	{
		Name: "collected-at-once", Breaks: "F6",
		What:     "what nothing refers to is deleted without collect_after",
		File:     "internal/sealed/collect.go",
		Old:      `v.Now.Add(-s.opts.CollectAfter)`,
		New:      `v.Now`,
		CaughtBy: sealed("TestCollector"),
	},
	{
		Name: "upload-not-read-in-the-commit", Breaks: "F6, F7",
		What:     "a Complete commits although its upload was ended meanwhile",
		File:     "internal/sealed/join.go",
		Old:      `case now == nil, now.Completed, now.Attempt != want.Attempt:`,
		New:      `case now != nil && (now.Completed || now.Attempt != want.Attempt):`,
		CaughtBy: sealed("TestCompleteOfAnUploadThatEnds"),
	},
	{
		Name: "complete-without-head", Breaks: "F6, F7",
		What: "the answer to a Complete is believed",
		File: "internal/sealed/join.go",
		Old: `	head, err := client.HeadObject(ctx, bucket, key, nil)
	switch {
	case upstream.NotFound(err) && (cerr`,
		New: `	if cerr == nil {
		etag, _ = multipartETag(parts)
		return etag, false, nil
	}
	head, err := client.HeadObject(ctx, bucket, key, nil)
	switch {
	case upstream.NotFound(err) && (cerr`,
		CaughtBy: sealed("TestStoreThatCompletesNothing"),
		Missed:   true,
	},
	{
		Name: "joined-from-any-list", Breaks: "F6",
		What:     "what is joined under an ETag that proves nothing is taken for one's own",
		File:     "internal/sealed/join.go",
		Old:      `case !guessed, now.Digest == want.Digest:`,
		New:      `case true, !guessed, now.Digest == want.Digest:`,
		CaughtBy: sealed("TestLostAnswerToAnUploadJoinedFromAnotherList"),
	},
	{
		Name: "list-not-announced", Breaks: "F7",
		What:     "a Complete leaves for the store without a word to its repetitions",
		File:     "internal/sealed/join.go",
		Old:      `if err := j.announce(); err != nil {`,
		New:      `if err := error(nil); err != nil {`,
		CaughtBy: sealed("TestCompleteRepeatedAfterTheFirstDied"),
	},
	{
		Name: "refused-beside-its-first-try", Breaks: "F7",
		What:     "a Complete that fails is not asked for what its first try did",
		File:     "internal/sealed/complete.go",
		Old:      `case ferr == nil && now.Completed:`,
		New:      `case false && ferr == nil && now.Completed:`,
		CaughtBy: sealed("TestCompleteOvertakenAndPassed"),
	},
	{
		Name: "md5-not-compared", Breaks: "F7",
		What:     "the store's ETag is not compared with what was sent",
		File:     "internal/sealed/put.go",
		Old:      `if !isMD5(got.ETag) || sameDigest(got.ETag, digest)`,
		New:      `if true || !isMD5(got.ETag) || sameDigest(got.ETag, digest)`,
		CaughtBy: sealed("TestReviewPiecesAreCompared"),
	},
	{
		Name: "known-from-uncommitted", Breaks: "F7",
		What: "a mark is remembered before its transaction has committed",
		File: "internal/sealed/batch.go",
		Old: `		learnt = append(learnt, ch.Scopes...)
		return ch, nil`,
		New: `		learnt = append(learnt, ch.Scopes...)
		c.known.learn(now, learnt...)
		return ch, nil`,
		CaughtBy: sealed("TestNothingIsLearntFromWhatDidNotCommit"),
		Missed:   true,
	},
	{
		Name: "unknown-batch-run-again", Breaks: "F4, F7",
		What:     "the operations of a batch whose outcome is unknown are run again, one by one",
		File:     "internal/sealed/batch.go",
		Old:      `case errors.Is(err, state.ErrUnknown) || errors.Is(err, state.ErrDecided) || len(batch) == 1:`,
		New:      `case len(batch) == 1:`,
		CaughtBy: sealed("TestBatchOfUnknownOutcomeIsNotRunAgain"),
		Missed:   true,
	},
	{
		Name: "retry-without-digest", Breaks: "F7",
		What:     "a retry is known by its id alone, whatever it writes",
		File:     "internal/sealed/retry.go",
		Old:      `ref.Bucket, ref.Key, op.RetryID, digest} {`,
		New:      `ref.Bucket, ref.Key, op.RetryID} {`,
		CaughtBy: sealed("TestRetriesGetTheFirstAnswer"),
	},
	{
		Name: "retry-not-judged", Breaks: "F4",
		What:     "a repetition under another token is answered without judging that token",
		File:     "internal/sealed/retry.go",
		Old:      `if !r.under(&op.request) {`,
		New:      `if !r.under(&op.request) && op.retry != nil {`,
		CaughtBy: sealed("TestRepetitionUnderAnotherToken"),
	},
	{
		Name: "named-body-not-compared", Breaks: "F7",
		What:     "another body under an Idempotency-Key is answered as the first one was",
		File:     "internal/idempotency/request.go",
		Old:      `if mine, ok := r.parts[name]; (!ok || mine != d) && (whole || name != partBody) {`,
		New:      `if mine, ok := r.parts[name]; (!ok || mine != d) && (whole || ok) && name != partBody {`,
		CaughtBy: Test{Package: "internal/idempotency", Name: "TestFind"},
	},
	{
		Name: "upload-of-another-token", Breaks: "F4",
		What: "an upload is completed under another token than it was created with",
		File: "internal/sealed/upload.go",
		Old: `	if u.Request.Token != 0 && u.Request.Token != up.Token {
		return nil, nil, otherToken(up.Token, u.Request.Token)
	}
	u.Request.Token = up.Token`,
		New: `	if u.Request.Token == 0 {
		u.Request.Token = up.Token
	}`,
		CaughtBy: sealed("TestUploads"),
	},
	{
		Name: "one-verdict-for-a-batch-delete", Breaks: "F7",
		What: "every key of a batch delete is answered as the first one",
		File: "internal/sealed/delete.go",
		Old:  `errs[i] = o.err`,
		New: `errs[i] = ops[0].err
		_ = o`,
		CaughtBy: sealed("TestDeleteAndTags"),
	},
	{
		Name: "read-shared-with-latecomers", Breaks: "F5, F6",
		What: "requests that come while a shared read runs are answered by it",
		File: "internal/sealed/read.go",
		Old: `		for _, w := range batch {
			w.view, w.err = view, err`,
		New: `		for _, w := range append(batch, r.take()...) {
			w.view, w.err = view, err`,
		CaughtBy: sealed("TestReadBeginsAfterItsRequestCame"),
	},
	{
		Name: "lost-bytes-are-404", Breaks: "F6, F7",
		What: "a physical key that the store does not have is answered 404",
		File: "internal/sealed/read.go",
		Old: `			// Replaced and collected since the row was read, or lost.
			before = o
			continue`,
		New:      `			return object.Info{}, nil, object.ErrNoSuchKey`,
		CaughtBy: sealed("TestBytesThatAreLost"),
	},
	{
		Name: "known-stale-over-generations", Breaks: "F8",
		What: "a token is remembered as stale although the scope was reset since",
		File: "internal/sealed/known.go",
		Old: `	if g := op.Request.Generation; g != row.Mark.Current() && (g != 0 || row.Mark.Current() != fence.FirstGeneration) {
		return nil
	}`,
		New:      ``,
		CaughtBy: sealed("TestKnownStaleOfAnotherGeneration"),
		Missed:   true,
	},
	{
		Name: "adopted-for-another-attempt", Breaks: "F6",
		What:     "an object is taken in for an attempt to add the guard that was given up",
		File:     "internal/sealed/adopt.go",
		Old:      `now.State != fence.Pending || !now.Created.Equal(g.Created) {`,
		New:      `now.State != fence.Pending {`,
		CaughtBy: sealed("TestAdoptForAnAttemptThatIsOver"),
		Missed:   true,
	},
}

func sealed(name string) Test { return Test{Package: "internal/sealed", Name: name} }
