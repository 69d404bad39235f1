#!/bin/sh
# Right: a job gives back its own token, and nothing else. Run it as
# releasing_anothers/right.sh.
set -eu
. ./fence.sh
scope=s3://demo/index/

clean_up() { # the lock that this token stands for, if it still stands
	s3fence lock release "$scope" --token "$1" || case $? in
	4) echo "the lock was somebody else's by then: left alone" ;;
	*) return 1 ;;
	esac
}

ann=$(s3fence lock acquire "$scope" --owner ann --ttl 1s)
# The planted delay: ann works on until her lease is over and bob, who waited,
# was let in.
bob=$(s3fence lock acquire "$scope" --owner bob --wait 60s)
clean_up "$ann"

if s3fence lock acquire "$scope" --owner carol; then
	echo "carol is let in while bob works"
fi
put "$bob" index/now "bob's work" && echo "bob's work stands"
clean_up "$bob"
