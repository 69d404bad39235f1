#!/usr/bin/env bash
# Prints the path of the versitygw server, the second store that the tests run
# against, building it from its Go module first where it is missing (about three
# minutes, once).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

version=v1.8.0

build() {
	echo "building versitygw $version; this takes about three minutes, once" >&2
	# Outside of any module, so that this product's go.mod has no say.
	(cd / && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
		go install -trimpath -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$version") >&2
}

install_tool versitygw "$cache/versitygw-$version" build
