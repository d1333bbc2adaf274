#!/bin/sh
# A greenhouse in two minutes: Redis, Mosquitto with mosquitto-redis, and the bridge on loopback ports in a temporary
# folder. A valve controller subscribes, loses power, misses three commands, comes back and gets them, in order, before
# a live one. Ends by itself and removes everything; a failure prints the logs and gives a non-zero status.
set -eu

cd "$(dirname "$0")/.."
repo=$PWD
build=${MQR_BUILD:-$repo/build}
dir=""
pids=""

say() {
	printf '\n* %s\n' "$*"
}

die() {
	printf '\nquickstart: %s\n' "$*" >&2
	exit 1
}

finish() {
	status=$?
	trap - EXIT INT TERM
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for pid in $pids; do wait "$pid" 2>/dev/null || true; done
	if [ -n "$dir" ]; then
		if [ "$status" -ne 0 ]; then
			for log in "$dir"/*.log "$dir"/*.txt; do
				if [ -s "$log" ]; then printf '\n---- %s\n' "${log##*/}" >&2; tail -n 60 "$log" >&2; fi
			done
		fi
		rm -rf "$dir"
	fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds.
wait_for() {
	tries=$(($1 * 20))
	what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || die "waited in vain for $what"
		sleep 0.05
	done
}

# A program started here may have ended by itself.
alive() {
	kill -0 "$1" 2>/dev/null || die "$2 ended by itself"
}

# listening PORT: does a program listen there?
listening() {
	grep -qi ":$(printf '%04X' "$1") 00000000:0000 0A" /proc/net/tcp
}

# A port from 20000 to 29999 on which nobody listens; the first one tried depends on the process.
free_port() {
	port=$((20000 + ($$ * 7 + $1 * 3331) % 10000))
	while listening "$port"; do port=$((port + 1)); done
	echo "$port"
}

redis() {
	redis-cli -h 127.0.0.1 -p "$redis_port" "$@"
}

publish() {
	mosquitto_pub -h 127.0.0.1 -p "$broker_port" -i dashboard -q 1 -t "$1" -m "$2" || die "publish to $1"
	echo "  dashboard -> $1: $2"
}

# The device: a clean session, QoS 1, every valve of house 3. What it receives goes to the file $1, a line each.
device_on() {
	mosquitto_sub -h 127.0.0.1 -p "$broker_port" -i valve-controller -q 1 -t 'greenhouse/3/+/set' -F '%t: %p' \
		>"$1" 2>"$1.log" &
	device=$!
	pids="$pids $device"
}

# events OPERATION N: does the plugin's event stream tell of that operation at least N times?
events() {
	[ "$(redis --raw XRANGE mqtt:events:quickstart - + | grep -cx "$1")" -ge "$2" ]
}

# received FILE N: has the device received N messages?
received() {
	[ "$(wc -l <"$1")" -ge "$2" ]
}

say "Packages and build (the first time this takes a minute)"
sh tests/packages.sh
dir=$(mktemp -d)
generator=""
if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator="-G Ninja"; fi
# shellcheck disable=SC2086
cmake -S . -B "$build" $generator >"$dir/cmake.log" 2>&1 || die "cmake failed"
cmake --build "$build" -j "$(nproc)" --target mosquitto_redis mosquitto-redis-bridge mosquitto-redis-ctl \
	>"$dir/build.log" 2>&1 || die "the build failed"
rm "$dir/cmake.log" "$dir/build.log"

redis_port=$(free_port 1)
broker_port=$(free_port 2)

say "Redis on port $redis_port, with an append-only file"
mkdir "$dir/redis"
redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$dir/redis" --appendonly yes --save "" \
	>"$dir/redis.log" 2>&1 &
redis_pid=$!
pids="$redis_pid $pids"
wait_for 10 Redis redis PING
alive "$redis_pid" Redis

say "The settings that plugin and bridge share, and two plugin lines for Mosquitto"
cat >"$dir/mosquitto-redis.conf" <<END
redis_url redis://127.0.0.1:$redis_port/0
broker_url mqtt://127.0.0.1:$broker_port
journal $dir/journal
journal_size 4M
node quickstart
listen none
mirror greenhouse/# stream history:%t maxlen=100000
redeliver greenhouse/3/# overlap=0
END
cat >"$dir/mosquitto.conf" <<END
plugin $build/plugin/mosquitto_redis.so
plugin_opt_config $dir/mosquitto-redis.conf
listener $broker_port 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
log_dest stderr
END
if [ "$(id -u)" -eq 0 ]; then echo "user root" >>"$dir/mosquitto.conf"; fi
sed -e "s|$dir/|.../|" -e 's/^/  /' "$dir/mosquitto-redis.conf"
grep ^plugin "$dir/mosquitto.conf" | sed -e "s|$dir/|.../|" -e "s|$build/|.../|" -e 's/^/  /'

say "Mosquitto on port $broker_port and the bridge"
mosquitto -c "$dir/mosquitto.conf" >"$dir/mosquitto.log" 2>&1 &
broker_pid=$!
pids="$broker_pid $pids"
wait_for 10 Mosquitto listening "$broker_port"
alive "$broker_pid" Mosquitto
"$build/bridge/mosquitto-redis-bridge" -c "$dir/mosquitto-redis.conf" >"$dir/bridge.log" 2>&1 &
bridge_pid=$!
pids="$bridge_pid $pids"

say "A valve controller connects with a clean session and subscribes to greenhouse/3/+/set"
device_on "$dir/first.txt"
wait_for 10 "the subscription" events subscribed 1
publish greenhouse/3/mist/set "off"
wait_for 10 "the first command at the device" received "$dir/first.txt" 1
sed 's/^/  valve-controller <- /' "$dir/first.txt"

say "It loses power; Mosquitto forgets its session"
kill -9 "$device"
wait "$device" 2>/dev/null || true
wait_for 10 "the end of the connection" events gone 1

say "Three commands for it (and one for another house) while it is away"
publish greenhouse/3/roof/set "open 40"
publish greenhouse/3/mist/set "on"
publish greenhouse/4/mist/set "on"
publish greenhouse/3/roof/set "open 15"

say "They are in Redis: redis-cli XRANGE history:greenhouse/3/roof/set - +"
wait_for 10 "two entries in Redis" sh -c \
	"[ \$(redis-cli -p $redis_port XLEN history:greenhouse/3/roof/set) -eq 2 ]"
redis --no-raw XRANGE history:greenhouse/3/roof/set - + | sed 's/^/  /'

say "The controller is back: same clean session, same subscription; then one live command"
device_on "$dir/second.txt"
wait_for 10 "the subscription" events subscribed 2
publish greenhouse/3/mist/set "off"
wait_for 20 "four commands at the device" received "$dir/second.txt" 4
sed 's/^/  valve-controller <- /' "$dir/second.txt"

cat >"$dir/expected.txt" <<END
greenhouse/3/roof/set: open 40
greenhouse/3/mist/set: on
greenhouse/3/roof/set: open 15
greenhouse/3/mist/set: off
END
cmp -s "$dir/expected.txt" "$dir/second.txt" || die "the device did not receive what it missed, then the live one"
alive "$redis_pid" Redis
alive "$broker_pid" Mosquitto
alive "$bridge_pid" "the bridge"
say "Exactly what it missed, in order, then the live one."
