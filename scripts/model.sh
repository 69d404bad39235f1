#!/usr/bin/env bash
# Checks the models of the protocol (model/*.pml) with Spin: all interleavings
# within the bounds, then the broken variants, each of which must break the
# invariant that its line names. docs/model.md tells of both.
#
#   model.sh [MODEL…]        those models; all of them without arguments
#   BOUNDS=large model.sh    larger bounds and no mutants: minutes, gigabytes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${BOUNDS:-small} in
small) bounds=() optimize=-O1 search=(-m100000 -w23) memory=2000 limit=240 ;;
large) bounds=(-DLARGE) optimize=-O2 search=(-m1000000 -w27) memory=${MEMORY:-12000} limit=14400 ;;
*)
	echo "model.sh: BOUNDS is small or large, not $BOUNDS" >&2
	exit 2
	;;
esac
for program in spin gcc; do
	if ! command -v $program >/dev/null; then
		echo "model.sh: $program is missing (scripts/prerequisites.sh)" >&2
		exit 1
	fi
done

models=("$@")
if [ $# -eq 0 ]; then
	for file in model/*.pml; do
		case $file in */spec.pml) ;; *) models+=("$(basename "$file" .pml)") ;; esac
	done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 searched=0 states=0 caught=0

# verifier FOLDER MODEL FLAG… makes FOLDER/pan. The search is exhaustive: no
# bitstate hashing, no hash compaction; partial order reduction keeps every
# violation of an assertion.
verifier() {
	local folder=$1 model=$PWD/model/$2.pml
	shift 2
	mkdir -p "$folder"
	(cd "$folder" && spin -a "$@" "$model") >"$folder/spin" || {
		cat "$folder/spin"
		return 1
	}
	gcc -w $optimize -DSAFETY -DMEMLIM="$memory" "${large[@]}" -o "$folder/pan" "$folder/pan.c"
}

count() { sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$1"; }
depth() { sed -n 's/.*depth reached \([0-9]*\).*/\1/p' "$1"; }

# whole says why a search does not prove anything; nothing where it does.
whole() {
	grep -q ' errors: 0$' "$1" || grep -m1 -E 'assertion violated|invalid end state|errors:' "$1" || echo 'no result'
	grep -m1 -E 'Search not completed|max search depth too small|MEMLIM|out of memory' "$1" || true
	# A statement that is never reached makes the model say less than it seems to.
	grep -E ', state [0-9]+, ' "$1" | grep -v '"-end-"' || true
}

check() {
	local model=$1 begin=$SECONDS dir=$work/$1 problems
	if ! verifier "$dir" "$model" "${bounds[@]}"; then
		failed=$((failed + 1))
		return
	fi
	(cd "$dir" && timeout $limit ./pan "${search[@]}") >"$dir/out" 2>&1 || true
	problems=$(whole "$dir/out")
	searched=$((searched + 1)) states=$((states + $(count "$dir/out" || echo 0)))
	if [ -z "$problems" ]; then
		echo "ok    model/$model.pml: $(count "$dir/out") states, depth $(depth "$dir/out"), $((SECONDS - begin)) s"
	else
		failed=$((failed + 1))
		echo "FAIL  model/$model.pml: $(count "$dir/out") states, $((SECONDS - begin)) s"
		sed 's/^/      /' <<<"$problems"
		if [ -e "$dir/$model.pml.trail" ]; then
			echo '      the last steps of the way there:'
			(cd "$dir" && timeout 60 spin -k "$model.pml.trail" -t -p "${bounds[@]}" "$OLDPWD/model/$model.pml" | grep ' proc ' | tail -n "${TRAIL:-30}") || true
		fi
	fi
}

# mutants reads the broken variants from the model itself: #define NAME number /* F4: …
mutants() {
	local model=$1 dir=$work/$1-mutants name number invariant
	if ! verifier "$dir" "$model" "${bounds[@]}" -DMUTANTS; then
		failed=$((failed + 1))
		return
	fi
	while read -r name number invariant; do
		(cd "$dir" && MUTANT=$number BREAKS=$invariant timeout $limit ./pan "${search[@]}") >"$dir/out" 2>&1 || true
		if grep -q "assertion violated.*F$invariant||" "$dir/out"; then
			caught=$((caught + 1))
			echo "ok    model/$model.pml $name breaks F$invariant ($(count "$dir/out") states)"
		else
			failed=$((failed + 1))
			echo "FAIL  model/$model.pml $name does not break F$invariant"
			sed 's/^/      /' <<<"$(whole "$dir/out")"
		fi
	done < <(sed -nE 's|^#define ([A-Z_]+) ([0-9]+) +/\* F([0-9]+): .*|\1 \2 \3|p' "model/$model.pml")
}

large=()
if [ "${BOUNDS:-small}" = large ]; then large=(-DCOLLAPSE); fi
begin=$SECONDS
for model in "${models[@]}"; do
	check "$model"
	if [ "${BOUNDS:-small}" = small ]; then mutants "$model"; fi
done
echo "model: $searched models, $states states; $caught mutants caught; $failed failed; $((SECONDS - begin)) s"
[ $failed -eq 0 ]
