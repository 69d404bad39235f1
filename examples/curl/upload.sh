#!/bin/sh
# The lock service and a fenced write with nothing but curl, for where no s3fence
# program is at hand. Run it as ./upload.sh.
set -eu
call() { # METHOD PATH [CURL'S OPTIONS]: a signed request
	method=$1 path=$2
	shift 2
	curl -sS --fail-with-body -X "$method" --aws-sigv4 aws:amz:us-east-1:s3 \
		--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$@" "$AWS_ENDPOINT_URL_S3$path"
}

lock=$(call POST /-/v1/locks/acquire -d '{"scope":"s3://demo/jobs/","owner":"curl","ttl":"60s"}') || {
	echo "$lock" >&2 # 409 LockHeld: by whom
	exit 1
}
token=$(printf %s "$lock" | sed -n 's/.*"token": *\([0-9]*\).*/\1/p')
trap 'call POST /-/v1/locks/release -d "{\"scope\":\"s3://demo/jobs/\",\"token\":$token}" >/dev/null' EXIT

# S3 wants to know whether the body is signed; curl 7 leaves it to you to say so.
# Exit code 22 with StaleFencingToken once the lock is lost.
df -P / | call PUT /demo/jobs/disk -H "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD" \
	-H "X-Fencing-Token: $token" --data-binary @-
echo "uploaded under token $token"
