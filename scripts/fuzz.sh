#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the module for that long each, one after the
# other, and says how many there were. Packages are built once each, all targets of one
# in one binary. What was found to be interesting is kept in S3FENCE_CACHE and begun
# with the next time; with TIME below 10s it is neither used nor kept, so that a short
# run spends its time on new inputs. What fails is written to testdata/fuzz of its
# package: as a file there it is run by every later go test.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
duration=${1:?usage: fuzz.sh TIME}
bins=$(mktemp -d) || exit 1
trap 'rm -rf "$bins"' EXIT
kept=${S3FENCE_CACHE:-$HOME/.cache/s3fence}/fuzz
[[ $duration =~ ^[0-9]s$ ]] && kept=$bins/kept

ran=0 failed=() begin=$SECONDS
# Looked up in the sources: to list the tests of a package builds it.
for package in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do
	binary=$bins/${package//\//_}
	# -fuzz makes it count what it covers, which is what guides the search.
	if ! go test -c -fuzz . -o "$binary" "$package"; then
		failed+=("$package does not build")
		continue
	fi
	for target in $(cd "$package" && "$binary" -test.list '^Fuzz'); do
		ran=$((ran + 1))
		said=$(cd "$package" && "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$duration" \
			-test.parallel "${FUZZ_PARALLEL:-2}" -test.fuzzcachedir "$kept/$package" </dev/null 2>&1) || failed+=("$package $target")
		execs=$(grep -o 'execs: [0-9]*' <<<"$said" | tail -n 1)
		echo "fuzz: $package $target: ${execs:-no inputs}"
		case ${failed[*]:+${failed[-1]}} in "$package $target") printf '%s\n' "$said" | cut -c1-2000 | tail -n 60 ;; esac
	done
done
echo "fuzz: $ran targets, $duration each, $((SECONDS - begin)) s in all; ${#failed[@]} failed${failed[*]:+: $(printf '%s; ' "${failed[@]}")}"
[ -z "${S3FENCE_TEST_RUN:-}" ] || echo "$ran ${#failed[@]}" >"$S3FENCE_TEST_RUN/fuzzed"
[ ${#failed[@]} -eq 0 ]
