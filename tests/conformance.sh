#!/bin/sh
# Mosquitto's own tests of its broker, from Debian's source package of the version that is installed, with the broker as it
# is and with our plugin loaded first: every test must end the same way. The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/conformance.sh [--help] [PATTERN]
  PATTERN  only tests whose name matches it (a regular expression)
The plugin is taken from ${MQR_BUILD:-build}. What runs, what is left out, and how: tests/conformance.py. tests/matrix.sh runs
it on the other Debian releases.
END
}

case ${1:-} in
--help) usage; exit 0 ;;
-*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. tests/chroot.sh
build=$(cd "${MQR_BUILD:-build}" && pwd)
sh tests/packages.sh python3 ca-certificates
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$out"

# The source package, by lists of apt's own beside those of the machine.
version=$(dpkg-query -W -f '${source:Version}' mosquitto)
upstream=$(dpkg-query -W -f '${source:Upstream-Version}' mosquitto)
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-testing}")
mkdir -p "$out/lists/partial" "$out/cache/archives/partial" "$out/source"
mirror=$(mirror_of debian)
security=$(mirror_of debian-security)
[ -n "$mirror" ] || { echo "conformance.sh: no Debian mirror in /etc/apt/sources.list*" >&2; exit 1; }
{
	echo "deb-src $mirror $suite main"
	if [ -n "$security" ]; then echo "deb-src $security $suite-security main"; fi
} >"$out/sources.list"
own_apt() {
	apt-get -q -o Dir::Etc::SourceList="$out/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$out/lists" -o Dir::Cache="$out/cache" -o APT::Sandbox::User=root "$@"
}
# A release that moves may have a later revision only, of the same source of Mosquitto.
source_of() {
	own_apt update && cd "$out/source" &&
		{ own_apt source --download-only "mosquitto=$version" || own_apt source --download-only mosquitto; } &&
		ls mosquitto_"$upstream".orig.tar.*
}
if ! (source_of) >"$out/apt" 2>&1; then
	cat "$out/apt"
	echo "FAILED: no source package of mosquitto $upstream (if $suite has moved on: a fresh chroot, or an upgrade)"
	echo "0 passed, 1 failed"
	exit 1
fi
for side in without with; do
	mkdir "$out/$side"
	tar xf "$out"/source/mosquitto_*.orig.tar.* -C "$out/$side" --strip-components 1
done
python3 tests/conformance.py "$out" "$build/plugin/mosquitto_redis.so" "${1:-}"
