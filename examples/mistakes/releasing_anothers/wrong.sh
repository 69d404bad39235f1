#!/bin/sh
# Wrong: at its end a job frees the lock, whoever has it by then. Run it as
# releasing_anothers/wrong.sh.
set -eu
. ./fence.sh
scope=s3://demo/index/

clean_up() { # the lock of this scope, by name
	holder=$(s3fence lock list "$scope" | awk 'NR == 2 { print $2 }')
	s3fence lock release "$scope" --token "$holder"
}

ann=$(s3fence lock acquire "$scope" --owner ann --ttl 1s)
# The planted delay: ann works on until her lease is over and bob, who waited,
# was let in.
bob=$(s3fence lock acquire "$scope" --owner bob --wait 60s)
clean_up # ann has finished, and frees … bob's lock

# So carol walks in on bob, who is at work.
if carol=$(s3fence lock acquire "$scope" --owner carol); then
	echo "carol is let in while bob works"
fi
put "$bob" index/now "bob's work" || echo "bob's work is lost"
s3fence lock release "$scope" --token "$carol"
