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
source=$PWD
chroots=${MQR_CHROOTS:-/var/cache/mosquitto-redis-chroots}
[ "$(id -u)" -eq 0 ] || { echo "matrix.sh: needs root" >&2; exit 1; }
sh tests/packages.sh debootstrap
mkdir -p "$chroots"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM

# The mirror that this machine's apt uses.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
	sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' \
		-e 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' |
	grep '/debian/*$' | head -n 1)
[ -n "$mirror" ] || { echo "matrix.sh: no Debian mirror in /etc/apt/sources.list*" >&2; exit 1; }
proxy=""
eval "$(apt-config shell proxy Acquire::http::Proxy)"
if [ -n "$proxy" ]; then
	http_proxy=$proxy
	export http_proxy
fi

# make_chroot SUITE: a finished chroot, or none.
make_chroot() {
	root=$chroots/$1
	if [ "$fresh" = 1 ]; then rm -rf "$root"; fi
	if [ -e "$root/etc/mqr-ready" ]; then return 0; fi
	rm -rf "$root"
	if [ ! -e "/usr/share/debootstrap/scripts/$1" ]; then
		ln -s sid "/usr/share/debootstrap/scripts/$1"
	fi
	echo "debootstrap $1 from $mirror"
	if ! debootstrap --variant=minbase "$1" "$root" "$mirror" >"$out/debootstrap" 2>&1; then
		tail -n 30 "$out/debootstrap"
		return 1
	fi
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	# A mirror may be frozen at a date; signatures are still checked.
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90frozen-mirror"
	: >"$root/etc/mqr-ready"
}

# run_in SUITE: mounts live in a name space of their own and go with it, as does every process started in it.
run_in() {
	root=$chroots/$1
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
	rm -rf "$root/src" "$root"/tmp/mqr-test-*
	mkdir "$root/src"
	tar -C "$source" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$root/src" -xf -
	unshare --mount --pid --fork --kill-child sh -c '
		set -eu
		mount --make-rprivate /
		mount -t proc proc "$1/proc"
		mkdir -p "$1/dev/shm"
		mount -t tmpfs tmpfs "$1/dev/shm"
		exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 CI="$2" \
			http_proxy="$3" sh -c "
				cd /src
				sh tests/packages.sh
				dpkg-query -W mosquitto libmosquitto-dev libhiredis-dev redis-server libcmocka-dev libuv1-dev gcc
				exec sh tests/run.sh --quick"
	' sh "$root" "${CI:-}" "${http_proxy:-}"
}

passed=0
failed=0
for suite in $suites; do
	printf '\n== %s\n' "$suite"
	started=$(date +%s)
	if ! make_chroot "$suite"; then
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
