package mutants

// edgeMutants are at the S3 edge and in what credentials carry.
var edgeMutants = []Mutant{
	{
		Name: "acknowledged-past-the-lease", Breaks: "F6, F9",
		What: "an unguarded write is acknowledged although the lease ended while the store worked",
		File: "internal/s3api/relay.go",
		Old: `	if flight != nil {
		if err := landed(flight); err != nil {
			return err
		}
	}
	if err := rq.asSent(resp)`,
		New:      `	if err := rq.asSent(resp)`,
		CaughtBy: edge("TestLeaseEndsUnderWay"),
	},
	{
		Name: "writes-by-the-old-list", Breaks: "F9",
		What:     "after the lease, writes are judged by the list that was known last",
		File:     "internal/s3api/pipeline.go",
		Old:      `if rq.op.mutates() || rq.presented.token != 0 || inside {`,
		New:      `if rq.presented.token != 0 || inside {`,
		CaughtBy: edge("TestLeaseOver"),
		Missed:   true,
	},
	{
		Name: "carried-token-counts-anywhere", Breaks: "F8",
		What:     "the token of fenced credentials counts in every scope",
		File:     "internal/s3api/token.go",
		Old:      `inside := c != nil && c.Scope == sc`,
		New:      `inside := c != nil`,
		CaughtBy: edge("TestCarriedOutside"),
	},
	{
		Name: "unsigned-token", Breaks: "F8",
		What:     "a token in a header that is not signed counts",
		File:     "internal/s3api/token.go",
		Old:      `if len(h[name]) > 0 && rq.signed.SignedHeader(name) == nil {`,
		New:      `if len(h[name]) > 0 && rq.signed.SignedHeader(name) == nil && name != headerToken {`,
		CaughtBy: edge("TestTokenCarriers"),
	},
	{
		Name: "raise-with-the-right-to-read", Breaks: "F8",
		What:     "whoever sends an external token may raise the mark with it",
		File:     "internal/s3api/token.go",
		Old:      `r.MayRaise = rq.mayWrite(sc.Bucket(), key)`,
		New:      `r.MayRaise = true`,
		CaughtBy: edge("TestReadersRaiseNothing"),
		Missed:   true,
	},
	{
		Name: "session-of-another-key", Breaks: "F8",
		What:     "a session token is good with any access key",
		File:     "internal/session/seal.go",
		Old:      `return append(header[:len(header):len(header)], accessKey...)`,
		New:      `return header[:len(header):len(header)]`,
		CaughtBy: Test{Package: "internal/session", Name: "TestAlteredTokens"},
	},
	{
		Name: "session-of-another-deployment", Breaks: "F8",
		What:     "a session token is good in every deployment with the same secrets",
		File:     "internal/session/seal.go",
		Old:      `root, err := hkdf.Extract(sha256.New, in, []byte(deployment))`,
		New:      `root, err := hkdf.Extract(sha256.New, in, []byte(label))`,
		CaughtBy: Test{Package: "internal/session", Name: "TestBinding"},
	},
	{
		Name: "any-right-will-do", Breaks: "none: rights",
		What:     "whoever has one of the rights that are asked for has them all",
		File:     "internal/auth/auth.go",
		Old:      `return have&r == r`,
		New:      `return have&r != 0`,
		CaughtBy: Test{Package: "internal/auth", Name: "TestMay"},
		Missed:   true,
	},
	{
		Name: "digests-not-compared", Breaks: "F7",
		What:     "what a request promises of its body is computed and not compared",
		File:     "internal/sigv4/body.go",
		Old:      `if bytes.Equal(sums[i], w.value) {`,
		New:      `if len(sums[i]) == len(w.value) {`,
		CaughtBy: Test{Package: "internal/sigv4", Name: "TestPayloadHeaders"},
	},
	{
		Name: "chunks-not-verified", Breaks: "F7",
		What:     "the signature of a chunk is looked at only where it is missing",
		File:     "internal/sigv4/chunks.go",
		Old:      `if !hmac.Equal(text[:], []byte(s.claimed)) {`,
		New:      `if len(s.claimed) != len(text) {`,
		CaughtBy: Test{Package: "internal/sigv4", Name: "TestChunkRefusals"},
	},
}

func edge(name string) Test { return Test{Package: "internal/s3api", Name: name} }
