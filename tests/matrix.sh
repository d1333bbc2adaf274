#!/bin/sh
# Runs tests/run.sh --quick and tests/conformance.sh on the other supported Debian releases, each in a chroot made with debootstrap
# and kept for the next time. Root only. The last line is "N passed, N failed" over all of them.
set -eu

usage() {
	cat <<'END'
usage: sh tests/matrix.sh [--fresh] [--help] [SUITE...]
  --fresh  make the chroots anew
  SUITE    trixie and testing when none is given
The chroots are kept in ${MQR_CHROOTS:-/var/cache/mosquitto-redis-chroots}; a failed test's folder, which it names below /tmp, in
SUITE/var/tmp there.
END
}

fresh=0
suites=""
for option in "$@"; do
	case $option in
	--fresh) fresh=1 ;;
	--help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) suites="$suites $option" ;;
	esac
done
suites=${suites:-trixie testing}

cd "$(dirname "$0")/.."
. tests/chroot.sh
. tests/failures.sh
chroot_prepare matrix.sh
out=$(mktemp -d)
pids=""
# What runs in a chroot ends with the process that this sends a signal to.
trap 'for pid in $pids; do pkill -P "$pid" 2>/dev/null || true; done; rm -rf "$out"' EXIT
trap 'exit 130' INT TERM

# With Valkey in Redis' place where the newest is, so that both see the whole suite.
run_in() {
	root=$chroots/$1
	more=""
	if [ "$1" = testing ]; then more=" --valkey"; fi
	rm -rf "$root"/var/tmp/mqr-test-*
	chroot_source "$root"
	chroot_run "$root" '
		cd /src
		sh tests/packages.sh
		dpkg-query -W mosquitto libmosquitto-dev libhiredis-dev redis-server libcmocka-dev libuv1-dev gcc
		status=0
		sh tests/run.sh --quick'"$more"' || status=$?
		sh tests/conformance.sh || status=$?
		for folder in /tmp/mqr-test-*; do
			if [ -d "$folder" ]; then cp -r "$folder" /var/tmp/ 2>/dev/null || true; fi # sockets are left out
		done
		exit $status'
}

# one SUITE: its output to $out/SUITE; side by side with the others, since tests wait most of the time.
one() {
	started=$(date +%s)
	status=0
	run_in "$1" >"$out/$1" 2>&1 || status=$?
	line=$(awk '/^[0-9]+ passed, [0-9]+ failed$/ { good += $1; bad += $3; lines++ }
		END { print good + 0, bad + (lines < 2) }' "$out/$1") # run.sh and conformance.sh print one each
	if [ "$status" -ne 0 ] && [ "${line#* }" -eq 0 ]; then line="${line% *} 1"; fi
	echo "$line $(($(date +%s) - started))" >"$out/$1.result"
}

passed=0
failed=0
for suite in $suites; do
	if [ "$fresh" = 1 ]; then rm -rf "${chroots:?}/$suite"; fi
	if ! chroot_make "$suite" "$suite"; then
		echo "debootstrap failed" >"$out/$suite"
		echo "0 1 0" >"$out/$suite.result"
		continue
	fi
	one "$suite" &
	pids="$pids $!"
done
wait
pids=""
for suite in $suites; do
	printf '\n== %s\n' "$suite"
	sed "s/^/$suite: /" "$out/$suite"
	read -r good bad seconds <"$out/$suite.result"
	passed=$((passed + good))
	failed=$((failed + bad))
	if [ "$bad" -ne 0 ]; then failures_of "$out/$suite" | sed "s/^FAILED: /&$suite: /" >>"$out/failures"; fi
	echo "$suite: $good passed, $bad failed, $seconds s"
done

printf '\n'
if [ -s "$out/failures" ]; then cat "$out/failures"; fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
