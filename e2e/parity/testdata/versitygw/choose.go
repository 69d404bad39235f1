package integration

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// choose returns f with its panics made failures if PARITY_TESTS, names with
// commas between, has it or is empty; otherwise nil. A line before and after says
// which test the lines between belong to.
func choose(f IntTest) IntTest {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	name = name[strings.LastIndexByte(name, '.')+1:]
	if chosen := os.Getenv("PARITY_TESTS"); chosen != "" && !slices.Contains(strings.Split(chosen, ","), name) {
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
