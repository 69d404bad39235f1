package mutants

var (
	judgeTest   = Test{Package: "internal/fence", Name: "TestJudge"}
	everyCorner = Test{Package: "internal/fence", Name: "TestNothingBelowTheMarkIsAdmitted"}
)

// ruleMutants are in the rule itself.
var ruleMutants = []Mutant{
	{
		Name: "stale-by-one", Breaks: "F3, F4",
		What:     "the comparison with the mark lets the token just below it pass",
		File:     "internal/fence/judge.go",
		Old:      `r.Token < m.Token:`,
		New:      `r.Token < m.Token-1:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "reads-not-fenced", Breaks: "F3, F5",
		What:     "a read under a stale token is admitted",
		File:     "internal/fence/judge.go",
		Old:      `r.Token < m.Token:`,
		New:      `r.Token < m.Token && r.Access != Read:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "stage-not-fenced", Breaks: "F3",
		What:     "parts are taken under a stale token",
		File:     "internal/fence/judge.go",
		Old:      `r.Token < m.Token:`,
		New:      `r.Token < m.Token && r.Access != Stage:`,
		CaughtBy: everyCorner,
	},
	{
		Name: "minted-token", Breaks: "F8",
		What:     "a client raises the mark of a scope whose tokens s3fence grants",
		File:     "internal/fence/judge.go",
		Old:      `case g.Issuer == Own:`,
		New:      `case g.Issuer == Own && r.Access == Read:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "generation-unnamed", Breaks: "F8",
		What:     "after a reset, a request that names no generation is judged by its number alone",
		File:     "internal/fence/judge.go",
		Old:      `r.Generation != m.Current() && (r.Generation != 0 || m.Current() != FirstGeneration):`,
		New:      `r.Generation != m.Current() && r.Generation != 0:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "scope-unnamed", Breaks: "F8",
		What:     "an external token counts without the name of its scope",
		File:     "internal/fence/judge.go",
		Old:      `case g.Issuer == External && !r.Named:`,
		New:      `case g.Issuer == External && !r.Named && r.Access == Read:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "anybody-raises", Breaks: "F8",
		What:     "whoever may only read raises the mark of an external issuer",
		File:     "internal/fence/judge.go",
		Old:      `case !r.MayRaise:`,
		New:      `case !r.MayRaise && r.Access != Read:`,
		CaughtBy: judgeTest,
	},
	{
		Name: "no-max-jump", Breaks: "F8",
		What:     "an external token may be any distance above the mark",
		File:     "internal/fence/judge.go",
		Old:      `int64(r.Token-m.Token) > g.MaxJump:`,
		New:      `int64(r.Token-m.Token) > max(g.MaxJump, DefaultMaxJump):`,
		CaughtBy: judgeTest,
	},
	{
		Name: "mark-without-generation", Breaks: "F1",
		What:     "marks are compared by their tokens, whatever their generations",
		File:     "internal/fence/token.go",
		Old:      `if m.Current() != n.Current() {`,
		New:      `if m.Current() < n.Current() {`,
		CaughtBy: Test{Package: "internal/fence", Name: "TestMarkBelow"},
	},
	{
		Name: "incarnation-forgotten", Breaks: "F2",
		What:     "a token is the counter alone, so a restored state grants numbers again",
		File:     "internal/fence/token.go",
		Old:      `return Token(incarnation<<CounterBits | counter), nil`,
		New:      `return Token(counter), nil`,
		CaughtBy: Test{Package: "internal/fence", Name: "TestMakeToken"},
	},
	{
		Name: "if-match-on-nothing", Breaks: "F10",
		What: "If-Match holds where there is no object",
		File: "internal/object/conditions.go",
		Old: `		if old == nil {
			return ErrNoSuchKey
		}
		if !matches(c.IfMatch, old.ETag) {
			return ErrPreconditionFailed
		}
	}
	if c.IfNoneMatch != "" && old != nil`,
		New: `		if old != nil && !matches(c.IfMatch, old.ETag) {
			return ErrPreconditionFailed
		}
	}
	if c.IfNoneMatch != "" && old != nil`,
		CaughtBy: Test{Package: "internal/object", Name: "TestCheckWrite"},
	},
}
