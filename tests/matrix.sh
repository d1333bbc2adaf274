#!/bin/sh
# Runs tests/run.sh --quick on the other supported Debian releases, each in a chroot made with debootstrap and kept for
# the next time. Root only. The last line is "N passed, N failed" over all of them.
set -eu

usage() {
	cat <<'END'
usage: sh tests/matrix.sh [--fresh] [--help] [SUITE...]
  --fresh  make the chroots anew
  SUITE    trixie and testing when none is given
The chroots are kept in ${MQR_CHROOTS:-/var/cache/mosquitto-redis-chroots}.
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
chroot_prepare matrix.sh
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM

# With Valkey in Redis' place where the newest is, so that both see the whole suite.
run_in() {
	root=$chroots/$1
	more=""
	if [ "$1" = testing ]; then more=" --valkey"; fi
	rm -rf "$root"/tmp/mqr-test-*
	chroot_source "$root"
	chroot_run "$root" '
		cd /src
		sh tests/packages.sh
		dpkg-query -W mosquitto libmosquitto-dev libhiredis-dev redis-server libcmocka-dev libuv1-dev gcc
		exec sh tests/run.sh --quick'"$more"
}

passed=0
failed=0
for suite in $suites; do
	printf '\n== %s\n' "$suite"
	started=$(date +%s)
	if [ "$fresh" = 1 ]; then rm -rf "${chroots:?}/$suite"; fi
	if ! chroot_make "$suite" "$suite"; then
		echo "FAILED: $suite: debootstrap"
		failed=$((failed + 1))
		continue
	fi
	status=0
	run_in "$suite" >"$out/run" 2>&1 || status=$?
	sed "s/^/$suite: /" "$out/run"
	line=$(tail -n 1 "$out/run" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
	if [ -z "$line" ]; then line="0 1"; fi
	if [ "$status" -ne 0 ] && [ "${line#* }" -eq 0 ]; then line="${line% *} 1"; fi
	passed=$((passed + ${line% *}))
	failed=$((failed + ${line#* }))
	if [ "${line#* }" -ne 0 ]; then echo "FAILED: $suite"; fi
	echo "$suite: ${line% *} passed, ${line#* } failed, $(($(date +%s) - started)) s"
done

printf '\n'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
