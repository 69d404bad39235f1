#!/bin/sh
# Wrong: whatever went wrong, "it is running elsewhere". Run it as
# three_failures/wrong.sh [WAIT].
set -eu
. ./fence.sh
scope=s3://demo/report/ wait=${1:-0s}

if ! token=$(s3fence lock acquire "$scope" --wait "$wait" 2>/dev/null); then
	echo "the report is being made elsewhere: nothing to do"
	exit 0
fi
put "$token" report/today "made by $$"
s3fence lock release "$scope" --token "$token"
