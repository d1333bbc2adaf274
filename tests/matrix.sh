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

# versions_hold SUITE: what README.md says of the release, "Debian 13 (2.0.21, 1.2, 8.0)" or "testing (...)", against what is
# installed there; as many parts of a version as it names.
versions_hold() {
	case $1 in
	trixie) release="Debian 13" ;;
	testing) release=testing ;;
	*) return 0 ;;
	esac
	said=$(tr '\n' ' ' <README.md | sed -n "s/.*Built and tested on .*[ ,]$release (\([0-9., ]*\)).*/\1/p" | tr -d ,)
	for package in mosquitto libhiredis-dev redis-server; do
		have=$(dpkg-query --admindir="$chroots/$1/var/lib/dpkg" -W -f '${source:Upstream-Version}' "$package" 2>/dev/null || true)
		claim=${said%% *}
		said=${said#"$claim"}
		said=${said# }
		case $have. in
		"${claim:-nothing}".*) ;;
		*)
			echo "FAILED: README.md says $package ${claim:-(nothing)} of $release, this release has ${have:-none}"
			hold=1
			;;
		esac
	done
	return "${hold:-0}"
}

# one SUITE: its output to $out/SUITE; side by side with the others, since tests wait most of the time.
one() {
	started=$(date +%s)
	status=0
	run_in "$1" >"$out/$1" 2>&1 || status=$?
	line=$(awk '/^[0-9]+ passed, [0-9]+ failed$/ { good += $1; bad += $3; lines++ }
		END { print good + 0, bad + (lines < 2) }' "$out/$1") # run.sh and conformance.sh print one each
	versions_hold "$1" >>"$out/$1" || line="${line% *} $((${line#* } + 1))"
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
