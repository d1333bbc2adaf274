#!/bin/sh
# A load that lasts, with random kills (tests/soak/test_soak.c), or with --explore what redelivery does to random devices
# (tests/soak/test_explore.c). The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/soak.sh [--explore] [--minutes N] [--seed N]
  --explore    seed after seed, from the one given on, 20 seconds and what it takes to look at the end each
  --minutes N  60 when not given; with --explore and a seed, and not given, only that one
  --seed N     as an earlier run printed it; a new one when not given
MQR_BUILD names a build folder other than build.
END
}

minutes=""
seed=""
test=test_soak
while [ $# -gt 0 ]; do
	case $1 in
	--explore) test=test_explore ;;
	--minutes) minutes=$2; shift ;;
	--seed) seed=$2; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
export MQR_SOAK_MINUTES="${minutes:-60}" MQR_SOAK_SEED="$seed" MQR_EXPLORE_SEED="$seed"
if [ -z "$minutes" ] && [ -z "$seed" ]; then minutes=60; fi
export MQR_EXPLORE_MINUTES="${minutes:-0}"

cd "$(dirname "$0")/.."
. tests/failures.sh
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
build=${MQR_BUILD:-build}
plain=""
if setarch -R true 2>/dev/null; then plain="setarch -R"; fi # sanitizers may need it
mkdir -p "$build"
# One at a time: another may run beside this one.
if ! flock "$build" sh -c 'cmake -S . -B "$1" -DTESTS=ON && cmake --build "$1" -j "$(nproc)" --target "$2"' sh "$build" "$test" \
	>"$out/build" 2>&1; then
	cat "$out/build"
	echo "FAILED: build"
	echo "0 passed, 1 failed"
	exit 1
fi
{ $plain "$build/$test" 2>&1 && : >"$out/passed"; } | tee "$out/soak"
if [ -e "$out/passed" ]; then
	echo "1 passed, 0 failed"
else
	sed -n 's/^seed /FAILED: seed /p' "$out/soak"
	test_failures "$test" "$out/soak"
	echo "0 passed, 1 failed"
	exit 1
fi
