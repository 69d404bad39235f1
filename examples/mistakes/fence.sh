# What the shell examples here share; sourced from this folder.

# put TOKEN KEY TEXT writes s3://demo/KEY under the token. Prints what went wrong
# and fails when it is refused.
put() {
	curl -sS --fail-with-body --aws-sigv4 aws:amz:us-east-1:s3 \
		--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
		${AWS_SESSION_TOKEN:+-H "X-Amz-Security-Token: $AWS_SESSION_TOKEN"} \
		-H "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD" -H "X-Fencing-Token: $1" \
		-X PUT --data-binary "$3" "$AWS_ENDPOINT_URL_S3/demo/$2" >&2 || {
		echo >&2 # the answer, S3's XML, ends in none
		return 1
	}
}
