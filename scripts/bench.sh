#!/usr/bin/env bash
# bench.sh runs every benchmark of the module, one package after the other so
# that none measures its neighbour.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
go test -p 1 -run '^$' -bench . -benchmem -timeout 60m ./... 2>&1 | grep -v -e '^?' -e 'no test files' | tee "$out"
status=${PIPESTATUS[0]}
echo "bench: $(grep -c '^Benchmark.*ns/op' "$out") benchmarks, $(grep -c '^FAIL\b' "$out") failures"
exit "$status"
