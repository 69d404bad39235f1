#!/usr/bin/env bash
# Prints the path of MinIO's client mc that the tests run, building it from its Go
# module first where it is missing (about a minute, once).
#
# The version is the one that MinIO's own module names, see minio.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

version=v0.0.0-20250313080218-cf909e1063a9

build() {
	echo "building mc $version; this takes about a minute, once" >&2
	# Outside of any module, so that this product's go.mod has no say.
	(cd / && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
		go install -trimpath -ldflags '-s -w' "github.com/minio/mc@$version") >&2
}

install_tool mc "$cache/mc-$version" build
