#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the module for that long each.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
duration=${1:?usage: fuzz.sh TIME}

# Looked up in the sources first: to list the tests of a package builds it.
packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
targets=
for package in $packages; do
	listed=$(go test -list '^Fuzz' "$package") || {
		echo "fuzz: $package does not build: $listed" >&2
		exit 1
	}
	targets+=$(sed -n "s|^Fuzz.*|$package &|p" <<<"$listed")$'\n'
done

ran=0 failed=()
while read -r package target; do
	[ -n "$target" ] || continue
	ran=$((ran + 1))
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package" </dev/null || failed+=("$target")
done <<<"$targets"
echo "fuzz: $ran targets, $duration each; ${#failed[@]} found something${failed[*]:+: ${failed[*]}}"
[ ${#failed[@]} -eq 0 ]
