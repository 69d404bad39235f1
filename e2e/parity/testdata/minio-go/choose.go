//go:build mint

package main

import (
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
)

// choose runs one test if PARITY_TESTS, names with commas between, has it or is
// empty. A line before and after says which test the lines between belong to: they
// name functions that several tests share. A panic is that test's failure.
func choose(test func()) {
	name := strings.TrimPrefix(runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name(), "main.")
	if chosen := os.Getenv("PARITY_TESTS"); chosen != "" && !slices.Contains(strings.Split(chosen, ","), name) {
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
