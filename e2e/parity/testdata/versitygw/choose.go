package integration

import (
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// choose returns a chosen test with its panics made failures, otherwise nil. A line
// before and after says which test the lines between belong to.
func choose(f IntTest) IntTest {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	name = name[strings.LastIndexByte(name, '.')+1:]
	if !chosen(name) {
		return nil
	}
	return func(s *S3Conf) (err error) {
		fmt.Println("PARITY begin", name)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			if err != nil {
				fmt.Printf("PARITY error %q\n", err.Error())
			}
			fmt.Println("PARITY end", name)
		}()
		return f(s)
	}
}

// chosen reports whether a test is to run: PARITY_TESTS has names with commas
// between, PARITY_SLICE a part "k/n" of all by the hash of their names. Empty ones
// choose everything.
func chosen(name string) bool {
	if tests := os.Getenv("PARITY_TESTS"); tests != "" {
		return slices.Contains(strings.Split(tests, ","), name)
	}
	var k, n uint32
	if _, err := fmt.Sscanf(os.Getenv("PARITY_SLICE"), "%d/%d", &k, &n); err != nil || n == 0 {
		return true
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%n == k
}

// bucketPrefix begins the names of buckets.
func bucketPrefix() string { return os.Getenv("PARITY_PREFIX") }
