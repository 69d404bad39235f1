#!/usr/bin/env bash
# parity.sh minio-go|gocloud|versitygw prints the path of a suite of S3 tests that
# others wrote, building it from its Go module first where it is missing (one to
# four minutes each, once). e2e/parity/doc.go says how they are used.
#
# The tests are as they were published. What is added, so that they can be chosen
# by name and be pointed at any server, stands in e2e/parity/testdata/ and in the
# substitutions below, each of which must find exactly its place. Their
# dependencies are those of their own go.sum, and never the product's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
suite=${1:-}
added=$(cd "$(dirname "${BASH_SOURCE[0]}")/../e2e/parity/testdata" && pwd)/$suite

case $suite in
minio-go) module=github.com/minio/minio-go/v7@v7.4.1 ;;
gocloud) module=gocloud.dev@v0.47.0 ;;
versitygw) module=github.com/versity/versitygw@v1.8.0 ;;
*)
	echo "usage: parity.sh minio-go|gocloud|versitygw" >&2
	exit 2
	;;
esac

# substitute FILE COUNT EXPRESSION makes COUNT new or other lines in FILE.
substitute() {
	local found
	sed -i.before "$3" "$1"
	found=$(diff "$1.before" "$1" | grep -c '^>') || true
	rm "$1.before"
	if [ "$found" -ne "$2" ]; then
		echo "$suite: $1: $3 made $found lines, not $2" >&2
		return 1
	fi
}

# What is added is a part of the program: other text, other folder.
if [ "${2:-}" != build ]; then
	revision=$(cat "$added"/*.go "${BASH_SOURCE[0]}" | sha256sum | cut -c1-8)
	# A script of its own: bash forgets errors in a function that is asked for its
	# status.
	install_tool "$suite" "$cache/parity-$suite-${module##*@}-$revision" "${BASH_SOURCE[0]}" "$suite" build
	exit
fi

work=$GOBIN/source
echo "building the suite $suite of $module; this takes minutes, once" >&2
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOWORK=off
folder=$(cd / && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
rm -rf "$work"
mkdir -p "$GOBIN"
cp -r "$folder" "$work"
chmod -R u+w "$work"
cd "$work"
case $suite in
minio-go)
	mkdir parity
	mv functional_tests.go parity/
	cp "$added/choose.go" parity/
	substitute parity/functional_tests.go 124 \
		'/^func main/,$s/^\(\t*\)\(test[A-Za-z0-9]*\)()$/\1choose(\2)/'
	substitute parity/functional_tests.go 1 \
		'/^func NewClient(/,/^}/s/^\t\tTransport:  *createHTTPTransport(),$/&\n\t\tBucketLookup: bucketLookup(),/'
	# Stores of today refuse the checksum types of 2026; the tests know that,
	# and say so on every system but this one.
	substitute parity/functional_tests.go 1 's/^\tignore2026Checksums = runtime.GOOS != "linux"$/\tignore2026Checksums = true/'
	go build -tags mint -trimpath -ldflags '-s -w' -o "$GOBIN/$suite" parity/*.go
	;;
gocloud)
	cp "$added/parity_test.go" blob/s3blob/
	go test -c -trimpath -ldflags '-s -w' -o "$GOBIN/$suite" ./blob/s3blob
	;;
versitygw)
	cp "$added/choose.go" tests/integration/
	mkdir parity
	cp "$added/main.go" parity/
	substitute tests/integration/concurrency.go 6 '/^func (ct \*TestState) \(Run\|Sync\)(/s/$/\n\tif f = choose(f); f == nil {\n\t\treturn\n\t}/'
	substitute tests/integration/s3conf.go 1 's/^\tcustomTransport := &http.Transport{$/&\n\t\tProxy: http.ProxyFromEnvironment,/'
	# Names of one run must not be those of another.
	substitute tests/integration/utils.go 1 '/^func getBucketName(/,/^}/s/"test-bucket-%v"/bucketPrefix()+"bucket-%v"/'
	go build -trimpath -ldflags '-s -w' -o "$GOBIN/$suite" ./parity
	;;
esac
cd /
rm -rf "$work"
