package s3api

import "testing"

// No answer of a scope shows where an object's bytes are, whatever the store says.
func TestStoresWordsShowNoPhysicalName(t *testing.T) {
	t.Parallel()
	const name = ".s3fence/objects/a5c650b4aca3d08d04a75fabe62875b3/0000000001/01a21609-b55e-7a45-a68b-332f5e0b4c11"
	for said, want := range map[string]string{
		"Invalid arguments provided for b/" + name + ": (no such method)": "Invalid arguments provided for b/my key: (no such method)",
		"Not there: " + name + ".":                                        "Not there: my key.",
		"/b/.s3fence%2Fobjects%2Fa5c650b4/0000000001/01a21609?uploadId=x": "/b/my key?uploadId=x",
		"Server side encryption specified but KMS is not configured":      "Server side encryption specified but KMS is not configured",
	} {
		rq := &request{fenced: true}
		rq.key = "my key"
		if got := rq.withoutPhysical(said); got != want {
			t.Errorf("in a scope: %q, want %q", got, want)
		}
	}
	rq := &request{}
	rq.key = "to"
	if got := rq.withoutPhysical("no copy of b/" + name); got != "no copy of b/(the source)" {
		t.Errorf("a copy out of a scope: %q", got)
	}
}
