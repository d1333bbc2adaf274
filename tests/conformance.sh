#!/bin/sh
# Mosquitto's own tests of its broker, from Debian's source package of the version that is installed, with the broker as it
# is and with our plugin loaded first: every test must end the same way. The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/conformance.sh [--help] [PATTERN]
  PATTERN  only tests whose name matches it (a regular expression)
The plugin is taken from ${MQR_BUILD:-build}. What runs, and how: tests/conformance.py.
END
}

case ${1:-} in
--help) usage; exit 0 ;;
-*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
build=$(cd "${MQR_BUILD:-build}" && pwd)
sh tests/packages.sh python3 ca-certificates
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$out"

# The source package, by lists of apt's own beside those of the machine.
version=$(dpkg-query -W -f '${source:Version}' mosquitto)
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-testing}")
mkdir -p "$out/lists/partial" "$out/cache/archives/partial" "$out/source"
cat >"$out/sources.list" <<END
deb-src http://deb.debian.org/debian $suite main
deb-src http://deb.debian.org/debian-security $suite-security main
END
own_apt() {
	apt-get -q -o Dir::Etc::SourceList="$out/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$out/lists" -o Dir::Cache="$out/cache" -o APT::Sandbox::User=root "$@"
}
if ! { own_apt update && cd "$out/source" && own_apt source --download-only "mosquitto=$version"; } >"$out/apt" 2>&1; then
	cat "$out/apt"
	echo "conformance.sh: no source package of mosquitto $version"
	echo "0 passed, 1 failed"
	exit 1
fi
cd - >/dev/null
for side in without with; do
	mkdir "$out/$side"
	tar xf "$out"/source/mosquitto_*.orig.tar.* -C "$out/$side" --strip-components 1
done
python3 tests/conformance.py "$out" "$build/plugin/mosquitto_redis.so" "${1:-}"
