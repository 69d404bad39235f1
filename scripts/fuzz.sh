#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the module for that long each.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
duration=${1:?usage: fuzz.sh TIME}

targets=$(for package in $(go list ./...); do
	go test -list '^Fuzz' "$package" | sed -n "s|^Fuzz.*|$package &|p"
done) || exit 1

ran=0 failed=()
while read -r package target; do
	[ -n "$target" ] || continue
	ran=$((ran + 1))
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package" </dev/null || failed+=("$target")
done <<<"$targets"
echo "fuzz: $ran targets, $duration each; ${#failed[@]} found something${failed[*]:+: ${failed[*]}}"
[ ${#failed[@]} -eq 0 ]
