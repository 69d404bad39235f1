#!/bin/sh
# Wrong: a lease that is shorter than the job, and nobody renews it. Run it as
# longer_than_ttl/wrong.sh.
set -eu
. ./fence.sh
scope=s3://demo/mails/

ann=$(s3fence lock acquire "$scope" --owner ann --ttl 1s --wait 60s)
echo "ann begins to send mails"

# The planted delay: ann is still sending when her lease ends and bob, who waited,
# is let in.
bob=$(s3fence lock acquire "$scope" --owner bob --wait 60s)
echo "bob begins to send mails"
put "$bob" mails/sent "by bob"
echo "bob ends"
s3fence lock release "$scope" --token "$bob"

put "$ann" mails/sent "by ann" || echo "ann's list is refused, and her mails are out"
echo "ann ends"
