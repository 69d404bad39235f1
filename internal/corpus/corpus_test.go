package corpus

import (
	"os"
	"testing"
)

// TestCorpus holds that the recording is as its README says: every client is there, each
// request can be read, was signed with a key whose secret is kept, and says when; and it
// stays small.
func TestCorpus(t *testing.T) {
	t.Parallel()
	clients := map[string]int{}
	total := 0
	for _, m := range Requests(t) {
		clients[m.From]++
		total += len(m.Raw)
		r, err := m.Request()
		if err != nil {
			t.Errorf("%s: %v", m.File, err)
			continue
		}
		if SignedAt(r).IsZero() {
			t.Errorf("%s does not say when it was signed", m.File)
		}
	}
	for _, name := range []string{
		"aws-cli-1", "aws-cli-2", "aws-sdk-go-v2", "boto3", "curl", "mc", "minio-go", "rclone", "restic", "s3cmd", "s3fence", "terraform",
	} {
		if clients[name] < 3 {
			t.Errorf("%d requests of %s", clients[name], name)
		}
	}
	stores := map[string]int{}
	for _, m := range Answers(t) {
		stores[m.From]++
		total += len(m.Raw)
	}
	if stores["minio"] < 10 || stores["versitygw"] < 10 {
		t.Errorf("answers: %v", stores)
	}
	if total > 1_500_000 {
		t.Errorf("%d bytes", total)
	}
	if n := len(Seeds(t)); n < 30 || n > 120 {
		t.Errorf("%d seeds", n)
	}
	if _, err := os.Stat("testdata/versions.json"); err != nil {
		t.Error(err)
	}
}
