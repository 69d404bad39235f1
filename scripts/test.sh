#!/usr/bin/env bash
# test.sh check|e2e|parity|mutants… runs the named parts and closes with one line that counts
# what they found; steps that are no tests (format, vet, lint, …) count as one
# test each. Every step is run, whatever the ones before it found.
#
# One PostgreSQL serves the whole run. It ends, with every process of the run,
# when this script does, also when it is interrupted.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
scripts=$PWD/scripts

for part in "$@"; do
	case $part in
	check | e2e | parity | mutants) ;;
	*)
		echo "usage: test.sh check|e2e|parity|mutants…" >&2
		exit 2
		;;
	esac
done

# Everything below runs under internal/pgtest/with, which lends PostgreSQL and
# ends what is left of the run's process group. Signals go to it and it is waited
# for, since bash would otherwise leave first.
if [ -z "${S3FENCE_TEST_RUN:-}" ]; then
	"$scripts/prerequisites.sh" || exit 1
	S3FENCE_TEST_RUN=$(mktemp -d) || exit 1
	export S3FENCE_TEST_RUN
	trap 'rm -rf "$S3FENCE_TEST_RUN"' EXIT
	go build -o "$S3FENCE_TEST_RUN/with" ./internal/pgtest/with || exit 1
	"$S3FENCE_TEST_RUN/with" "$scripts/test.sh" "$@" </dev/null &
	with=$!
	trap 'kill -TERM $with 2>/dev/null' INT TERM HUP
	while :; do
		wait $with
		status=$?
		kill -0 $with 2>/dev/null || exit $status
	done
fi

passed=0 failed=0 skipped=0

# step NAME COMMAND… runs one step that is no test.
step() {
	local name=$1 begin=$SECONDS
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok    $name ($((SECONDS - begin)) s)"
	else
		failed=$((failed + 1))
		echo "FAIL  $name ($((SECONDS - begin)) s)"
	fi
}

# tests NAME ARGUMENT… runs go test and adds up what it found. A run that fails
# without a failing test (it did not build, it ran out of time) is one failure.
tests() {
	local name=$1 begin=$SECONDS counts=$S3FENCE_TEST_RUN/counts total=0 bad=0 skip=0 errors=0 status=0
	shift
	rm -f "$counts"
	COUNTS=$counts "$gotestsum" --format pkgname --format-hide-empty-pkg \
		--post-run-command "bash -c 'echo \$TESTS_TOTAL \$TESTS_FAILED \$TESTS_SKIPPED \$TESTS_ERRORS >\$COUNTS'" \
		-- -timeout 15m "$@" || status=$?
	if [ -s "$counts" ]; then read -r total bad skip errors <"$counts"; fi
	if [ $status -ne 0 ] && [ $((bad + errors)) -eq 0 ]; then errors=1; fi
	passed=$((passed + total - bad - skip))
	failed=$((failed + bad + errors))
	skipped=$((skipped + skip))
	if [ $status -eq 0 ]; then echo "ok    $name ($((SECONDS - begin)) s)"; else echo "FAIL  $name ($((SECONDS - begin)) s)"; fi
}

# fuzzed fuzzes every target for a moment; each is a test.
fuzzed() {
	local begin=$SECONDS ran=0 bad=1 status=0
	rm -f "$S3FENCE_TEST_RUN/fuzzed"
	"$scripts/fuzz.sh" 1s || status=$?
	if [ -s "$S3FENCE_TEST_RUN/fuzzed" ]; then read -r ran bad <"$S3FENCE_TEST_RUN/fuzzed"; fi
	passed=$((passed + ran - bad))
	failed=$((failed + bad))
	if [ $status -eq 0 ]; then echo "ok    fuzz ($((SECONDS - begin)) s)"; else echo "FAIL  fuzz ($((SECONDS - begin)) s)"; fi
}

# mutants plants every fault of internal/mutants, or those that M names; each is a test.
mutants() {
	local begin=$SECONDS ran=0 bad=1 status=0
	rm -f "$S3FENCE_TEST_RUN/planted"
	go build -o "$S3FENCE_TEST_RUN/plant" ./internal/mutants/plant || status=$?
	# M is a list of names.
	# shellcheck disable=SC2086
	[ $status -ne 0 ] || "$S3FENCE_TEST_RUN/plant" ${M:-} || status=$?
	if [ -s "$S3FENCE_TEST_RUN/planted" ]; then read -r ran bad <"$S3FENCE_TEST_RUN/planted"; fi
	passed=$((passed + ran - bad))
	failed=$((failed + bad))
	if [ $status -eq 0 ]; then echo "ok    mutants ($((SECONDS - begin)) s)"; else echo "FAIL  mutants ($((SECONDS - begin)) s)"; fi
}

formatted() {
	local unformatted
	unformatted=$(find . -name '*.go' -not -path './.*' -print0 | xargs -0 gofmt -l) || return 1
	if [ -n "$unformatted" ]; then
		printf 'not formatted (gofmt -w):\n%s\n' "$unformatted"
		return 1
	fi
}

tidied() {
	local diff
	diff=$(go mod tidy -diff 2>&1) && return
	printf 'go.mod and go.sum are not tidy (go mod tidy):\n%s\n' "$(head -n 20 <<<"$diff")"
	return 1
}

# armed lists the packages that have tests for builds with pause points. The
# end-to-end tests build such programs themselves.
armed() {
	grep -rlE --include='*_test.go' '^//go:build .*\bpausepoints\b' . | grep -v '^\./e2e/' | xargs -r -n1 dirname | sort -u
}

check() {
	local packages
	# On a new machine this takes minutes; inside of a test they would count
	# against the test's time.
	step 'build MinIO' "$scripts/minio.sh"
	step 'build versitygw' "$scripts/versitygw.sh"
	step format formatted
	step tidy tidied
	step vet go vet ./...
	step 'vet (pausepoints)' go vet -tags pausepoints ./...
	step lint "$golangci" run --allow-serial-runners
	step model "$scripts/model.sh"
	# What go list finds is no input that the test cache knows of.
	tests arrows -count=1 ./internal/arrows
	mapfile -t packages < <(go list ./... | grep -v -e '/e2e\(/\|$\)' -e '/internal/arrows$')
	tests 'tests (race)' -race "${packages[@]}"
	# Its bounds are promised of the program as delivered.
	tests 'takeover in time (no race detector)' -count=1 -run '^TestTakeoverUnderWriters$' ./internal/sealed
	# Thousands of interleavings that are forced and not left to chance.
	tests 'statements stepped (no race detector)' -run '^TestSteps' ./internal/sealed
	mapfile -t packages < <(armed)
	if [ ${#packages[@]} -gt 0 ]; then
		tests 'tests (race, pausepoints)' -race -tags pausepoints "${packages[@]}"
	fi
	mutants
	fuzzed
}

e2e() {
	if [ ! -d e2e ]; then
		echo 'no end-to-end tests stand yet'
		return
	fi
	# Three programs: as delivered; with the race detector; and that one with
	# pause points to arm.
	step 'build s3fence' make build
	step 'build s3fence-race' go build -race -o bin/s3fence-race ./cmd/proxy
	step 'build s3fence-armed' go build -race -tags pausepoints -o bin/s3fence-armed ./cmd/proxy
	step 'build MinIO' "$scripts/minio.sh"
	step 'build versitygw' "$scripts/versitygw.sh"
	step 'build mc' "$scripts/mc.sh"
	step 'find or build Terraform' "$scripts/terraform.sh"
	suites
	S3FENCE_TEST_BIN=$PWD/bin tests e2e -count=1 ./e2e/...
}

# suites builds the tests of others that e2e/parity runs.
suites() {
	local suite
	for suite in minio-go gocloud versitygw; do
		step "build the suite $suite" "$scripts/parity.sh" $suite
	done
}

# parity runs them whole; it takes longer than all others together.
parity() {
	step 'build s3fence' make build
	step 'build MinIO' "$scripts/minio.sh"
	step 'build versitygw' "$scripts/versitygw.sh"
	suites
	S3FENCE_TEST_BIN=$PWD/bin tests parity -count=1 -timeout 4h -v ./e2e/parity -full
}

gotestsum=$("$scripts/tool.sh" gotestsum) && golangci=$("$scripts/tool.sh" golangci-lint) || exit 1
for part in "$@"; do $part; done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
