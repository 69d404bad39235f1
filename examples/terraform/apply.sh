#!/bin/sh
# Applies main.tf under a lock. Run it as ./apply.sh [-var release=2]. TERRAFORM
# names the program; else it is tofu, or terraform where there is no tofu.
set -eu
scope=s3://demo/tfstate/ terraform=${TERRAFORM:-$(command -v tofu || echo terraform)}
[ "${S3FENCE_SCOPE:-}" = $scope ] || exec s3fence lock run --wait 10m $scope -- "$0" "$@"

backend=s3fence.tfbackend
case $("$terraform" version) in
"Terraform v1."[0-5].*)
	backend=s3fence-1.5.tfbackend
	export AWS_S3_ENDPOINT="$AWS_ENDPOINT_URL_S3" # as it was called then
	;;
esac
"$terraform" init -input=false -backend-config=$backend
"$terraform" apply -input=false -auto-approve "$@"
