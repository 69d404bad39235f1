package idempotency

import (
	"errors"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// FuzzKey: what counts as a key is what was sent, whole and alone; and a request under
// it is found again as itself, and never as another one.
func FuzzKey(f *testing.F) {
	f.Add("k", "", "ann", "PutObject", "s3://data/jobs/a", "bob")
	f.Add("", "k", "", "", "", "")
	f.Add("1:k", "k", "ann 1", "x", "y", "ann")
	f.Add("\xff\x00", "k", "a", "GET", "\n", "b")
	f.Fuzz(func(t *testing.T, key, other, credential, operation, target, second string) {
		got, err := CheckKey([]string{key})
		if (err == nil) != (key != "" && len(key) <= MaxKey) || err == nil && got != key {
			t.Fatalf("%q is %q, %v", key, got, err)
		}
		if err != nil && !errors.Is(err, ErrBadKey) {
			t.Fatalf("%q: %v", key, err)
		}
		if _, err := CheckKey([]string{key, other}); !errors.Is(err, ErrBadKey) {
			t.Fatalf("two keys are taken: %v", err)
		}
		r := New(credential, key, operation, target)
		if (key != other || credential != second) && New(second, other, operation, target).ID() == r.ID() {
			t.Fatalf("%q of %q and %q of %q are one", key, credential, other, second)
		}
		if (key != other || credential != second) && r.Item(key, credential) == r.Item(other, second) {
			t.Fatalf("items %q and %q are one", []string{key, credential}, []string{other, second})
		}
		kept := r.Record(time.Unix(1_800_000_000, 0), []byte("answer"))
		if kept.ID != r.ID() {
			t.Fatal("it is kept under another name")
		}
		retries := map[state.RetryID][]byte{kept.ID: kept.Result}
		if answer, found, err := New(credential, key, operation, target).Find(retries); err != nil || !found || string(answer) != "answer" {
			t.Fatalf("its repetition finds %q, %v, %v", answer, found, err)
		}
		if operation != other {
			if _, found, err := New(credential, key, other, target).Find(retries); found || !errors.Is(err, ErrReused) {
				t.Fatalf("%s finds the answer of %s: %v", other, operation, err)
			}
		}
	})
}

// FuzzRecord: a record that is damaged is an error, never an answer made up.
func FuzzRecord(f *testing.F) {
	r := New("ann", "k", "PutObject", "s3://data/jobs/a")
	f.Add(r.Record(time.Unix(1_800_000_000, 0), []byte("answer")).Result)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"p":{"the operation":"00"}}`))
	f.Fuzz(func(t *testing.T, result []byte) {
		answer, found, err := r.Find(map[state.RetryID][]byte{r.ID(): result})
		switch {
		case err != nil && (found || answer != nil):
			t.Fatalf("%q, %v beside %v", answer, found, err)
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrReused):
			t.Fatalf("%v", err)
		case err == nil && !found:
			t.Fatal("a record counts for none")
		}
	})
}
