#!/bin/sh
# Installs the Debian packages that building and testing need, and any named on the command line; only what is missing.
# Needs root only when something is. Starts no service, and needs no init system.
set -eu

wanted="gcc libc6-dev cmake ninja-build make pkg-config mosquitto libmosquitto-dev mosquitto-clients redis-server
	redis-tools tmux libhiredis-dev libuv1-dev libcmocka-dev uthash-dev libcjson-dev libssl-dev libxxhash-dev
	libsystemd-dev libmicrohttpd-dev openssl e2fsprogs $*"
# Installed where the name exists: part of libmosquitto-dev in some releases; not yet packaged in Debian 12.
where_known="mosquitto-dev valkey-server"

installed() {
	dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

list_missing() {
	for package in "$@"; do
		installed "$package" || printf '%s ' "$package"
	done
}

missing=$(list_missing $wanted)
known_missing=$(list_missing $where_known)
if [ -z "$missing" ]; then
	# As far as apt knows already: a release that has one of them not is not asked for it every time.
	candidates=$known_missing
	known_missing=""
	for package in $candidates; do
		if apt-cache show "$package" >/dev/null 2>&1; then known_missing="$known_missing$package "; fi
	done
fi
[ -n "$missing$known_missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "packages.sh: missing: $missing$known_missing- run it as root" >&2
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# RUNLEVEL=1: invoke-rc.d then starts nothing.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
quietly() {
	"$@" >"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		echo "packages.sh: failed: $*" >&2
		exit 1
	}
}
# Two of these at once, as when tests and analysis are started side by side: one after the other. apt-get update does not wait for
# any other program itself.
exec 9>/var/cache/apt/mosquitto-redis.lock
flock 9
update() {
	for try in 1 2 3 4 5 6 7 8 9 10; do
		if apt-get update; then return 0; fi
		sleep 6
	done
	return 1
}
quietly update
for package in $known_missing; do
	if apt-cache show "$package" >/dev/null 2>&1; then missing="$missing $package"; fi
done
[ -n "$missing" ] || exit 0
echo "installing: $missing"
# Another program may be installing, as on a machine that was just started.
quietly apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing
