#!/bin/sh
# Builds the Debian package and installs it in a clean chroot of each release: what is in it, the service file, the
# programs, a broker with the plugin as its own user, and that purging it leaves nothing. Root only.
# The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/install.sh [--help] [SUITE...]
  SUITE  this machine's own release and trixie when none is given
The chroots are kept in ${MQR_CHROOTS:-/var/cache/mosquitto-redis-chroots}.
END
}

case ${1:-} in
--help) usage; exit 0 ;;
-*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. tests/chroot.sh
chroot_prepare install.sh
sh tests/packages.sh dpkg-dev file systemd mandoc
own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
suites=${*:-$own trixie}
out=$(mktemp -d)
clean=""
trap 'rm -rf "$out" ${clean:+"$clean"}' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

# check WHAT COMMAND...: counts; prints the output of what failed.
check() {
	what=$1
	shift
	if "$@" >"$out/check" 2>&1; then
		echo "ok: $what"
		passed=$((passed + 1))
	else
		cat "$out/check"
		echo "FAILED: $suite: $what"
		tail -n 3 "$out/check" | sed "s/^/FAILED: $suite: /" | cut -c 1-240
		failed=$((failed + 1))
	fi
}

make_package='
	rm -rf build-package
	cmake -S . -B build-package -DTESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr
	cmake --build build-package -j "$(nproc)"
	cd build-package
	cpack -G DEB'

# package SUITE: $out/SUITE.deb, built on that release.
package() {
	if [ "$1" = "$own" ]; then
		rm -rf "$out/src"
		chroot_source "$out"
		(cd "$out/src" && sh -ec "$make_package")
		mv "$out"/src/build-package/*.deb "$out/$1.deb"
	else
		chroot_make "$1" "$1"
		chroot_source "$chroots/$1"
		chroot_run "$chroots/$1" "set -e; cd /src; sh tests/packages.sh dpkg-dev file; $make_package"
		mv "$chroots/$1"/src/build-package/*.deb "$out/$1.deb"
	fi
}

# clean_chroot SUITE: what a machine has that systemd runs, and no more.
clean_chroot() {
	chroot_make "clean-$1" "$1"
	[ -x "$chroots/clean-$1/usr/bin/systemctl" ] && [ -x "$chroots/clean-$1/bin/kill" ] ||
		chroot_run "$chroots/clean-$1" 'apt-get update && apt-get install -y --no-install-recommends systemd procps'
}

# Every file it should hold, none twice, nothing else.
contents() {
	dpkg -c "$1" | awk '$1 !~ /^d/ { print $6 }' | sed 's,/lib/[a-z0-9_]*-linux-gnu[a-z0-9]*/,/lib/*/,' | LC_ALL=C sort >"$out/found"
	LC_ALL=C sort >"$out/wanted" <<'END'
./etc/mosquitto/mosquitto-redis.conf
./usr/bin/mosquitto-redis-bridge
./usr/bin/mosquitto-redis-ctl
./usr/lib/*/mosquitto/mosquitto_redis.so
./usr/lib/systemd/system/mosquitto-redis-bridge.service
./usr/share/bash-completion/completions/mosquitto-redis-ctl
./usr/share/doc/mosquitto-redis/README.md
./usr/share/doc/mosquitto-redis/copyright
./usr/share/doc/mosquitto-redis/OPERATIONS.md
./usr/share/doc/mosquitto-redis/REDELIVERY.md
./usr/share/doc/mosquitto-redis/REDIS.md
./usr/share/doc/mosquitto-redis/redis-users.conf
./usr/share/doc/mosquitto-redis/redis.conf
./usr/share/man/man1/mosquitto-redis-ctl.1
./usr/share/man/man5/mosquitto-redis.conf.5
./usr/share/man/man8/mosquitto-redis-bridge.8
END
	diff "$out/wanted" "$out/found"
}

# Each of these lines, and no other of its name, which would be added to it or take its place: the figure of systemd-analyze hardly
# changes with one of them.
service_lines() {
	cat >"$out/wanted" <<'END'
StartLimitIntervalSec=0
Restart=always
RestartPreventExitStatus=1 2
User=mosquitto
Group=mosquitto
UMask=0077
LimitNOFILE=4096
LimitCORE=0
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
END
	sed 's/^\([A-Za-z]*=\).*/^\1/' "$out/wanted" | sort -u >"$out/names"
	grep -f "$out/names" "$1" >"$out/found" || true
	diff "$out/wanted" "$out/found"
}

# Nothing but remarks on style (long lines, no date).
manual() {
	for page in "$clean"/usr/share/man/man[158]/mosquitto-redis*; do
		mandoc -T lint -W warning "$page" | grep -v 'missing date' >>"$out/lint" || true
	done
	cat "$out/lint"
	[ ! -s "$out/lint" ]
}

# The broker of this release, as its own user, with the plugin and the sample settings; stopped as soon as it runs.
try_broker='
	set -eu
	printf "listener 18830 127.0.0.1\nallow_anonymous true\nuser mosquitto\nlog_dest stderr\nplugin %s\nplugin_opt_config %s\n" \
		/usr/lib/*/mosquitto/mosquitto_redis.so /etc/mosquitto/mosquitto-redis.conf >/tmp/broker.conf
	mosquitto -c /tmp/broker.conf 2>/tmp/broker.log &
	broker=$!
	tries=0
	until grep -q "mosquitto version .* running" /tmp/broker.log; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] && kill -0 "$broker" || { cat /tmp/broker.log; exit 1; }
		sleep 0.1
	done
	kill "$broker"
	wait "$broker"
	cat /tmp/broker.log
	grep -q "mosquitto-redis: version" /tmp/broker.log
	[ -f /var/lib/mosquitto/mosquitto-redis.journal ]
	rm -f /tmp/broker.conf /tmp/broker.log'

nothing_left() {
	left=$(cd "$clean" && find . -xdev \( -name '*mosquitto-redis*' -o -name '*mosquitto_redis*' \) ! -path './src/*' ! -name '*.deb')
	echo "$left"
	[ -z "$left" ] && ! chroot "$clean" dpkg-query -W mosquitto-redis
}

for suite in $suites; do
	printf '\n== %s\n' "$suite"
	check "the package builds" package "$suite"
	[ -f "$out/$suite.deb" ] || continue
	check "it holds what it should" contents "$out/$suite.deb"
	check "a clean chroot" clean_chroot "$suite"
	clean=$(mktemp -d "$chroots/install-XXXXXX")
	cp -a "$chroots/clean-$suite/." "$clean"
	cp "$out/$suite.deb" "$clean/mosquitto-redis.deb"
	: >"$out/lint"
	check "it installs" chroot_run "$clean" '
		apt-get update && apt-get install -y --no-install-recommends /mosquitto-redis.deb'
	check "the bridge runs" chroot_run "$clean" 'mosquitto-redis-bridge --version &&
		mosquitto-redis-bridge --check -c /etc/mosquitto/mosquitto-redis.conf'
	check "the command line tool runs" chroot_run "$clean" 'mosquitto-redis-ctl --help'
	check "the broker takes the plugin" chroot_run "$clean" "$try_broker"
	check "systemd-analyze verify" systemd-analyze verify --man=no --root="$clean" mosquitto-redis-bridge.service
	check "systemd-analyze security" systemd-analyze security --no-pager --offline=true --root="$clean" --threshold=15 \
		mosquitto-redis-bridge.service
	check "what the service may do, and when it is started again" service_lines \
		"$clean/lib/systemd/system/mosquitto-redis-bridge.service"
	check "the manual pages are well formed" manual
	check "it purges" chroot_run "$clean" 'apt-get purge -y mosquitto-redis'
	check "purging leaves nothing" nothing_left
	rm -rf "$clean"
	clean=""
done

printf '\n'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
