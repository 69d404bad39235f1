#!/bin/sh
# Backs a folder up with restic and drops what is older than a week, under a lock.
# Run it as ./backup.sh FOLDER.
#
# restic's own locks are files in the repository that it calls stale after half an
# hour: a prune that was suspended for longer goes on deleting beside the next
# one. With s3fence its deletes are refused: StaleFencingToken.
set -eu
[ "${S3FENCE_SCOPE:-}" = s3://demo/restic/ ] || exec s3fence lock run --wait 1h s3://demo/restic/ -- "$0" "$@"

# restic takes AWS_* with the token from lock run.
export RESTIC_REPOSITORY="s3:$AWS_ENDPOINT_URL_S3/demo/restic" RESTIC_PASSWORD="${RESTIC_PASSWORD:-secret}"
restic cat config >/dev/null 2>&1 || restic init
restic backup "${1:?usage: backup.sh FOLDER}"
restic forget --keep-within 7d --prune
