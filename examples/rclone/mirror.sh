#!/bin/sh
# Mirrors a folder into s3://demo/mirror/ under a lock, deletions included. Run it
# as ./mirror.sh FOLDER.
#
# lock run defines the remote s3fence: by RCLONE_CONFIG_S3FENCE_*, with credentials
# that carry the token. After a loss every write and delete of this rclone is
# refused: StaleFencingToken. Trying again cannot help, hence --retries 1.
set -eu
exec s3fence lock run --wait 1m s3://demo/mirror/ -- \
	rclone sync --retries 1 --verbose "${1:?usage: mirror.sh FOLDER}" s3fence:demo/mirror
