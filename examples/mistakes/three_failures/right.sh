#!/bin/sh
# Right: each failure has an exit code of its own, and only one of them is no
# news. Run it as three_failures/right.sh [WAIT]; it ends with
#   0   the report was made
#   10  somebody else is making it, and we were not to wait
#   11  we waited, and somebody else still holds the lock
#   12  the lock service does not answer: nobody may be making it
set -eu
. ./fence.sh
scope=s3://demo/report/ wait=${1:-0s}

token=$(s3fence lock acquire "$scope" --wait "$wait") || case $? in
3) # held; s3fence said by whom
	if [ "$wait" = 0s ]; then exit 10; fi
	echo "still held after $wait: is a job hanging?" >&2
	exit 11
	;;
5)
	echo "no lock service: the report is NOT made" >&2
	exit 12
	;;
*) exit 1 ;; # a wrong key, a scope without a guard: for people to mend
esac
put "$token" report/today "made by $$"
s3fence lock release "$scope" --token "$token"
