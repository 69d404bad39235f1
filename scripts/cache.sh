# Where the tools that the tests need are kept: outside the checkout, shared by
# every checkout of one user. Sourced by the scripts beside it, never run.

cache=${S3FENCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/s3fence}
case $cache in
/*) ;;
*)
	echo "${0##*/}: S3FENCE_CACHE is not an absolute path: $cache" >&2
	exit 2
	;;
esac

# install_tool NAME FOLDER COMMAND… runs COMMAND unless FOLDER/NAME stands
# already. COMMAND writes NAME into the folder that $GOBIN names; the finished
# file is then moved into place, so that whoever finds it finds it whole. One
# lock per folder makes callers that come together wait for a single build.
install_tool() {
	local name=$1 folder=$2
	shift 2
	if [ ! -x "$folder/$name" ]; then
		mkdir -p "$folder"
		(
			flock -w 1800 9 || {
				echo "$name: another build holds $folder/.lock for 30 minutes" >&2
				exit 1
			}
			if [ ! -x "$folder/$name" ]; then
				# The lock is not handed down: a build that outlives this
				# shell must not keep it.
				GOBIN=$folder/.new "$@" 9>&- || exit 1
				mv "$folder/.new/$name" "$folder/$name"
				rm -rf "$folder/.new"
			fi
		) 9>"$folder/.lock" || return 1
	fi
	printf '%s\n' "$folder/$name"
}
