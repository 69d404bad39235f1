package mutants

// storeMutants are in the client to the store.
var storeMutants = []Mutant{
	{
		Name: "no-expiry", Breaks: "F7",
		What: "mutations are signed without an end to their validity",
		File: "internal/upstream/request.go",
		Old: `		hr.URL.RawQuery = expires
		signed`,
		New: `		_ = expires
		signed`,
		CaughtBy: upstream("TestWhatGoesUpstream"),
	},
	{
		Name: "sent-twice", Breaks: "F4, F7",
		What: "a mutation that failed is sent again",
		File: "internal/upstream/do.go",
		Old: `	if err != nil {
		defer cancel(nil)
		if _, own`,
		New: `	if err != nil && hr.Body == nil {
		resp, err = c.transport.RoundTrip(hr)
	}
	if err != nil {
		defer cancel(nil)
		if _, own`,
		CaughtBy: upstream("TestMutationsAreSentOnce"),
	},
	{
		Name: "redirects-followed", Breaks: "F7",
		What:     "a store's redirect is followed, to wherever it leads",
		File:     "internal/upstream/do.go",
		Old:      `c.transport.RoundTrip(hr)`,
		New:      `(&http.Client{Transport: c.transport}).Do(hr)`,
		CaughtBy: upstream("TestOutcomesOfMutations"),
	},
	{
		Name: "gateway-errors-are-refusals", Breaks: "F7",
		What:     "any 4xx is taken for the store's own refusal, whoever answered it",
		File:     "internal/upstream/outcome.go",
		Old:      `} else if own && (e.Status/100 == 4 || e.Status == http.StatusNotModified) {`,
		New:      `} else if e.Status/100 == 4 || e.Status == http.StatusNotModified {`,
		CaughtBy: upstream("TestOutcomesOfMutations"),
	},
	{
		Name: "errors-inside-200", Breaks: "F7",
		What:     "any <Error> inside of a 200 is taken for a refusal, InternalError too",
		File:     "internal/upstream/outcome.go",
		Old:      `if refusals[s3.Code] {`,
		New:      `if s3.Code != "" {`,
		CaughtBy: upstream("TestOutcomesOfMutations"),
	},
	{
		Name: "cut-body-looks-whole", Breaks: "F7",
		What:     "the connection to the store ends in an orderly way, which some stores take for the end of a body",
		File:     "internal/upstream/conn.go",
		Old:      `if err := tcp.SetLinger(0); err != nil {`,
		New:      `if err := tcp.SetLinger(1); err != nil {`,
		CaughtBy: upstream("TestCutBodyEndsInAReset"),
	},
}

func upstream(name string) Test { return Test{Package: "internal/upstream", Name: name} }
