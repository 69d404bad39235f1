package object

import (
	"maps"
	"testing"
)

func TestCopiedHeaders(t *testing.T) {
	t.Parallel()
	source := map[string]string{"Content-Type": "a/b", WebsiteRedirect: "/old"}
	if got := CopiedHeaders(source, ""); !maps.Equal(got, map[string]string{"Content-Type": "a/b"}) {
		t.Errorf("%v", got)
	}
	if got := CopiedHeaders(source, "/new"); !maps.Equal(got, map[string]string{"Content-Type": "a/b", WebsiteRedirect: "/new"}) {
		t.Errorf("%v", got)
	}
	if source[WebsiteRedirect] != "/old" {
		t.Error("the source's headers were changed")
	}
	if got := CopiedHeaders(nil, ""); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
