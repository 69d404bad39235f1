#!/usr/bin/env bash
# Prints the path of the Terraform or OpenTofu that the examples are tested with:
# tofu or terraform of the PATH, else Terraform 1.5.7, built from its Go module
# first where it is missing (about three minutes, once). It is the last version
# under the MPL, and OpenTofu cannot be built by `go install` (a replace directive).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

command -v tofu || command -v terraform && exit

version=v1.5.7

build() {
	echo "building Terraform $version; this takes about three minutes, once" >&2
	# Outside of any module, so that this product's go.mod has no say.
	(cd / && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
		go install -trimpath -ldflags '-s -w' "github.com/hashicorp/terraform@$version") >&2
}

install_tool terraform "$cache/terraform-$version" build
