//go:build mint

package main

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
)

// choose runs a chosen test. A line before and after says which test the lines between belong to: they
// name functions that several tests share. A panic is that test's failure.
func choose(test func()) {
	name := strings.TrimPrefix(runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name(), "main.")
	if !chosen(name) {
		return
	}
	slog.Info("", "parity", "begin", "test", name)
	defer func() {
		if p := recover(); p != nil {
			slog.Error("", "status", "FAIL", "message", fmt.Sprint("panic: ", p), "error", string(debug.Stack()))
		}
		slog.Info("", "parity", "end", "test", name)
	}()
	test()
}

// bucketLookup is how the client names buckets.
func bucketLookup() minio.BucketLookupType {
	if os.Getenv("PARITY_STYLE") == "virtual" {
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupPath
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
