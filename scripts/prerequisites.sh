#!/usr/bin/env bash
# Checks that what the tests need is on this machine. As root it installs what
# Debian has a package for; otherwise it says what to install.
set -euo pipefail

problems=()
packages=()

have() { command -v "$1" >/dev/null 2>&1; }

# need PROGRAM… PACKAGE: any of the programs will do.
need() {
	local package=${*: -1} program
	for program in "${@:1:$#-1}"; do
		if have "$program"; then return; fi
	done
	packages+=("$package")
}

postgres() {
	local dir
	for dir in /usr/lib/postgresql/*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then return; fi
	done
	have initdb && have postgres
}

# aws2 looks past the aws that comes first: Debian's is of version 2, and a shim of
# version 1 may stand before it. The matrix of clients wants both where it can.
aws2() {
	local dir IFS=:
	for dir in $PATH /usr/bin; do
		if [ -x "$dir/aws" ] && "$dir/aws" --version 2>&1 | grep -q '^aws-cli/2'; then return; fi
	done
	return 1
}

boto3() { python3 -c 'import boto3' >/dev/null 2>&1; }

missing() {
	packages=()
	need git git
	need flock util-linux
	have gcc || have cc || packages+=(gcc libc6-dev) # the race detector
	need pgbouncer /usr/sbin/pgbouncer pgbouncer
	need curl curl
	aws2 || packages+=(awscli)
	need python3 python3
	need redis-server redis-server # the demo's lock recipe is run against it
	need node nodejs
	need spin spin # the models of the protocol
	need rclone rclone
	need restic restic
	need s3cmd s3cmd
	postgres || packages+=(postgresql-15)
	boto3 || packages+=(python3-boto3)
}

install() {
	# Debian starts a server when its package is installed. The tests start
	# their own and leave no process behind.
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	local get=(apt-get -q -y -o DPkg::Lock::Timeout=300)
	"${get[@]}" update >&2 && "${get[@]}" install --no-install-recommends "$@" >&2
}

if ! have go; then
	problems+=("Go is not in PATH: install the version that go.mod names, or later")
elif ! go list -m >/dev/null 2>&1; then
	problems+=("$(go list -m 2>&1)")
fi

missing
if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && have apt-get; then
	echo "prerequisites: installing ${packages[*]}" >&2
	install "${packages[@]}" </dev/null || true
	missing
fi
if [ ${#packages[@]} -gt 0 ]; then
	problems+=("missing: ${packages[*]} (Debian's names): apt-get install ${packages[*]}")
fi
if have python3 && ! boto3; then
	problems+=("$(command -v python3) cannot import boto3: install it for that Python")
fi

for problem in "${problems[@]}"; do echo "prerequisites: $problem" >&2; done
exit $((${#problems[@]} > 0))
