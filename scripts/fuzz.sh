#!/usr/bin/env bash
# fuzz.sh TIME [TARGET…] runs every fuzz target of the module, or those named, for that
# long each, one after the other, and says how many there were. Each package is built
# once, while the targets of the one before it run. With TIME below 10s those that run a
# whole server for each input get three times as long, all others half.
#
# What was found to be interesting is kept in S3FENCE_CACHE and begun with the next time;
# a short run neither uses nor keeps it, so that it spends its time on new inputs. What
# fails is written to testdata/fuzz of its package, where every later go test runs it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
duration=${1:?usage: fuzz.sh TIME [TARGET…]}
shift
wanted=" $* "
bins=$(mktemp -d) || exit 1
builder=
trap '[ -z "$builder" ] || kill "$builder" 2>/dev/null; rm -rf "$bins"' EXIT
trap 'exit 130' INT TERM HUP
kept=${S3FENCE_CACHE:-$HOME/.cache/s3fence}/fuzz short=
servers=" FuzzAnswers FuzzCalls FuzzHandler FuzzRecorded FuzzServe FuzzSocket "
[[ $duration =~ ^[0-9]s$ ]] && kept=$bins/kept short=${duration%s}

# Looked up in the sources: to list the tests of a package builds it.
targets=$(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sed 's|^\./||; s|/[^/]*:func | |' | sort)
if [ "$wanted" != "  " ]; then
	targets=$(while read -r package target; do [[ $wanted == *" $target "* ]] && echo "$package $target"; done <<<"$targets")
fi
packages=$(cut -d' ' -f1 <<<"$targets" | sort -u)

# -fuzz makes a binary count what it covers, which is what guides the search.
build() {
	local package
	for package in $packages; do
		go test -c -fuzz . -ldflags '-s -w' -o "$bins/${package//\//_}" "./$package" >"$bins/${package//\//_}.said" 2>&1
		touch "$bins/${package//\//_}.done"
	done
}
build &
builder=$!

# search TIME fuzzes $target of $package.
search() {
	(cd "$package" && "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$1" \
		-test.parallel 2 -test.fuzzcachedir "$kept/$package" </dev/null 2>&1)
}

ran=0 failed=() begin=$SECONDS
for package in $packages; do
	binary=$bins/${package//\//_}
	until [ -e "$binary.done" ]; do sleep 0.1; done
	for target in $(sed -n "s|^$package ||p" <<<"$targets"); do
		ran=$((ran + 1))
		if [ ! -x "$binary" ]; then
			failed+=("$target")
			tail -n 20 "$binary.said"
			continue
		fi
		time=$duration
		if [ -n "$short" ]; then
			[[ $servers == *" $target "* ]] && time=$((short * 3))s || time=$((short * 500))ms
		fi
		if said=$(search "$time") || {
			# The go command's own: its time was over while a worker was at work, and no
			# input failed. On a busy machine a longer search ends as it should.
			grep -q '^ *context deadline exceeded$' <<<"$said" && ! grep -q 'Failing input' <<<"$said" && said=$(search 20s)
		}; then
			execs=$(grep -o 'execs: [0-9]*' <<<"$said" | tail -n 1)
			echo "fuzz: $package $target: ${execs:-only its seeds}"
		else
			failed+=("$target")
			echo "fuzz: $package $target failed:"
			cut -c1-2000 <<<"$said" | tail -n 60
		fi
	done
done
builder=
[ "$ran" -gt 0 ] || failed+=("there is no such target")
echo "fuzz: $ran targets, $duration each, $((SECONDS - begin)) s in all; ${#failed[@]} failed${failed[*]:+: ${failed[*]}}"
[ -z "${S3FENCE_TEST_RUN:-}" ] || echo "$ran ${#failed[@]}" >"$S3FENCE_TEST_RUN/fuzzed"
[ ${#failed[@]} -eq 0 ]
