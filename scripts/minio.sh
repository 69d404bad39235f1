#!/usr/bin/env bash
# Prints the path of the MinIO server that the tests run against, building it
# from its Go module first where it is missing (about five minutes, once).
#
# The version is a commit of 2026-02-12, named by its pseudo-version: MinIO's
# release tags are no semantic versions, so Go knows its releases only so.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

version=v0.0.0-20260212201848-7aac2a2c5b7c

build() {
	echo "building MinIO $version; this takes about five minutes, once" >&2
	# Outside of any module, so that this product's go.mod has no say.
	(cd / && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
		go install -trimpath -ldflags '-s -w' "github.com/minio/minio@$version") >&2
}

install_tool minio "$cache/minio-$version" build
