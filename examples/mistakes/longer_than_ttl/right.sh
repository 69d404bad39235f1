#!/bin/sh
# Right: s3fence lock run renews the lease for as long as the job runs, and ends the
# job if the lock is lost all the same. Run it as longer_than_ttl/right.sh.
set -eu
. ./fence.sh
scope=s3://demo/mails/

if [ "${1:-}" = job ]; then # the job, under the lock: job OWNER SECONDS
	echo "$2 begins to send mails"
	echo >>"$begun"
	sleep "$3"
	put "$S3FENCE_TOKEN" mails/sent "by $2"
	echo "$2 ends"
	exit
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export begun="$dir/begun"
mkfifo "$begun"
s3fence lock run --ttl 2s --wait 60s "$scope" -- "$0" job ann 3 & # longer than the lease
read -r _ <"$begun"                                               # bob comes while ann sends
begun=/dev/null s3fence lock run --ttl 2s --wait 60s "$scope" -- "$0" job bob 0
wait $!
