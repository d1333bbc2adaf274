# Chroots of Debian releases, made with debootstrap and kept for the next time; sourced by matrix.sh and install.sh (root only),
# and by conformance.sh for the mirror. The caller has `set -eu` and its own folder for output in $out.

chroots=${MQR_CHROOTS:-/var/cache/mosquitto-redis-chroots}

# mirror_of ARCHIVE: the mirror of debian, debian-security, ... that this machine's apt uses; nothing if it has none.
mirror_of() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' \
			-e 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' |
		grep "/$1/*\$" | head -n 1
}

# chroot_prepare PROGRAM: what all of this needs; exits when it is not to be had.
chroot_prepare() {
	[ "$(id -u)" -eq 0 ] || { echo "$1: needs root" >&2; exit 1; }
	sh tests/packages.sh debootstrap
	mkdir -p "$chroots"
	mirror=$(mirror_of debian)
	[ -n "$mirror" ] || { echo "$1: no Debian mirror in /etc/apt/sources.list*" >&2; exit 1; }
	proxy=""
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	if [ -n "$proxy" ]; then
		http_proxy=$proxy
		export http_proxy
	fi
}

# chroot_make NAME SUITE: a finished chroot in $chroots/NAME, or none.
chroot_make() {
	root=$chroots/$1
	if [ -e "$root/etc/mqr-ready" ]; then return 0; fi
	rm -rf "$root"
	if [ ! -e "/usr/share/debootstrap/scripts/$2" ]; then
		ln -s sid "/usr/share/debootstrap/scripts/$2"
	fi
	echo "debootstrap $2 from $mirror"
	if ! debootstrap --variant=minbase "$2" "$root" "$mirror" >"$out/debootstrap" 2>&1; then
		tail -n 30 "$out/debootstrap"
		return 1
	fi
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	# A mirror may be frozen at a date; signatures are still checked.
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90frozen-mirror"
	: >"$root/etc/mqr-ready"
}

# chroot_source ROOT: this source tree as ROOT/src.
chroot_source() {
	rm -rf "$1/src"
	mkdir "$1/src"
	tar -C "$PWD" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$1/src" -xf -
}

# chroot_run ROOT COMMAND: a shell command; mounts live in a name space of their own and go with it, as does every
# process started in it. /tmp is in memory: two suites at once have dozens of servers that sync their files, and a disk that does not
# keep up stops them all for a minute. (What is run outside of a chroot is on the disk.)
chroot_run() {
	cp /etc/resolv.conf "$1/etc/resolv.conf"
	echo '127.0.0.1 localhost' >"$1/etc/hosts"
	unshare --mount --pid --fork --kill-child sh -c '
		set -eu
		mount --make-rprivate /
		mount -t proc proc "$1/proc"
		mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
		mkdir -p "$1/dev/shm"
		mount -t tmpfs tmpfs "$1/dev/shm"
		mkdir -p "$1/dev/pts" # terminals
		mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
		exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 CI="$2" \
			http_proxy="$3" DEBIAN_FRONTEND=noninteractive sh -c "$4"
	' sh "$1" "${CI:-}" "${http_proxy:-}" "$2"
}
