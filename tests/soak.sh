#!/bin/sh
# A load that lasts, with random kills (tests/soak/test_soak.c). The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/soak.sh [--minutes N] [--seed N]
  --minutes N  60 when not given
  --seed N     as an earlier run printed it; a new one when not given
MQR_BUILD names a build folder other than build.
END
}

MQR_SOAK_MINUTES=60
while [ $# -gt 0 ]; do
	case $1 in
	--minutes) MQR_SOAK_MINUTES=$2; shift ;;
	--seed) MQR_SOAK_SEED=$2; export MQR_SOAK_SEED; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
export MQR_SOAK_MINUTES

cd "$(dirname "$0")/.."
. tests/failures.sh
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
build=${MQR_BUILD:-build}
plain=""
if setarch -R true 2>/dev/null; then plain="setarch -R"; fi # sanitizers may need it
if ! { cmake -S . -B "$build" -DTESTS=ON && cmake --build "$build" -j "$(nproc)" --target test_soak; } >"$out/build" 2>&1; then
	cat "$out/build"
	echo "FAILED: build"
	echo "0 passed, 1 failed"
	exit 1
fi
{ $plain "$build/test_soak" 2>&1 && : >"$out/passed"; } | tee "$out/soak"
if [ -e "$out/passed" ]; then
	echo "1 passed, 0 failed"
else
	sed -n 's/^seed /FAILED: seed /p' "$out/soak"
	test_failures "test_soak" "$out/soak"
	echo "0 passed, 1 failed"
	exit 1
fi
