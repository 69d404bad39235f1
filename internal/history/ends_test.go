package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/s3fence/s3fence/internal/fence"
)

// TestEndsChangeNoVerdict: random histories, right and wrong, are judged alike with
// unknown operations that end by a grant and with ones that are open for ever.
func TestEndsChangeNoVerdict(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	correct, wrong, ended := 0, 0, 0
	for range 4000 {
		ops := randomHistory(rng)
		plain := make([]porcupine.Operation, len(ops))
		for i := range ops {
			plain[i] = porcupine.Operation{ClientId: i, Input: &ops[i], Call: int64(ops[i].Call), Return: int64(ops[i].Return)}
			if ops[i].Result == Unknown {
				plain[i].Return = open
			}
		}
		for i, end := range ends(ops, fence.Own) {
			if end != plain[i].Return {
				ended++
			}
		}
		want := porcupine.CheckOperationsTimeout(model(fence.Own), plain, time.Minute)
		if got := check(ops, Options{Issuer: fence.Own, Within: time.Minute}); got != want {
			v := Violation{Ops: ops}
			t.Fatalf("judged %v, want %v:\n%v", got, want, v.Error())
		}
		if want == porcupine.Ok {
			correct++
		} else {
			wrong++
		}
	}
	if correct < 300 || wrong < 300 || ended < 300 {
		t.Errorf("%d correct histories, %d wrong ones, %d ended operations: too few to tell", correct, wrong, ended)
	}
}

// randomHistory makes up answers that are often right.
func randomHistory(rng *rand.Rand) []Op {
	var ops []Op
	token := int64(1)
	values := []string{"a"}
	for i := range 3 + rng.IntN(6) {
		call := time.Duration(10*i + 1)
		o := Op{Client: fmt.Sprint(i), Scope: "s", Kind: Put, Key: "k", Call: call, Return: call + time.Duration(1+rng.IntN(40)), Token: max(1, token-rng.Int64N(2)), Result: OK}
		o.Value = fmt.Sprint("v", i)
		switch n := rng.IntN(10); {
		case i == 0 || n < 3:
			token++
			o = Op{Client: o.Client, Scope: "s", Kind: Grant, Result: OK, Granted: token, Call: o.Call, Return: o.Return}
			if rng.IntN(4) == 0 {
				o.Result, o.Granted = Unknown, 0
			}
		case n < 5:
			o.Result = Unknown
			values = append(values, o.Value)
		case n < 6:
			o.Result = Stale
		case n < 8:
			o.Kind, o.Value, o.Got, o.Token = Get, "", values[rng.IntN(len(values))], 0
			if o.Got == "a" {
				o.Got, o.Result = "", Absent
			}
		default:
			values = append(values, o.Value)
		}
		ops = append(ops, o)
	}
	return ops
}
