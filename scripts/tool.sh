#!/usr/bin/env bash
# tool.sh NAME prints the path of a development tool, installing it at its pinned
# version first where it is missing. The product's go.mod knows nothing of them:
# their dependencies are not the product's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

case ${1:-} in
golangci-lint)
	package=github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	version=v2.15.0
	;;
gotestsum)
	package=gotest.tools/gotestsum
	version=v1.13.0
	;;
*)
	echo "usage: tool.sh golangci-lint|gotestsum" >&2
	exit 2
	;;
esac

build() {
	echo "building $1 $version, once" >&2
	(cd / && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local \
		go install -trimpath -ldflags '-s -w' "$package@$version") >&2
}

install_tool "$1" "$cache/$1-$version" build "$1"
