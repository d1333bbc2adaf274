#!/bin/sh
# A greenhouse in two minutes: Redis, Mosquitto with mosquitto-redis, and the bridge on loopback ports in a temporary
# folder. A valve controller subscribes, loses power, misses three commands, comes back and gets them, in order, before
# a live one. Ends by itself and removes everything; a failure prints the logs and gives a non-zero status.
set -eu

cd "$(dirname "$0")/.."
example=quickstart
. ./examples/common.sh

# command TOPIC PAYLOAD: from the dashboard.
command_to() {
	publish dashboard "$1" "$2"
	echo "  dashboard -> $1: $2"
}

# The device: a clean session, QoS 1, every valve of house 3. What it receives goes to the file $1, a line each.
device_on() {
	mosquitto_sub -h 127.0.0.1 -p "$broker_port" -i valve-controller -q 1 -t 'greenhouse/3/+/set' -F '%t: %p' \
		>"$1" 2>"$1.log" &
	device=$!
	pids="$pids $device"
}

prepare

say "Redis on port $redis_port, with an append-only file"
start_redis

say "The settings that plugin and bridge share, and two plugin lines for Mosquitto"
settings <<END
mirror greenhouse/# stream history:%t maxlen=100000
redeliver greenhouse/3/# overlap=0
END
show_settings

say "Mosquitto on port $broker_port and the bridge"
start_broker
start_bridge

say "A valve controller connects with a clean session and subscribes to greenhouse/3/+/set"
device_on "$dir/first.txt"
wait_for 10 "the subscription" events subscribed 1
command_to greenhouse/3/mist/set "off"
wait_for 10 "the first command at the device" received "$dir/first.txt" 1
sed 's/^/  valve-controller <- /' "$dir/first.txt"

say "It loses power; Mosquitto forgets its session"
kill_now "$device"
wait_for 10 "the end of the connection" events gone 1

say "Three commands for it (and one for another house) while it is away"
command_to greenhouse/3/roof/set "open 40"
command_to greenhouse/3/mist/set "on"
command_to greenhouse/4/mist/set "on"
command_to greenhouse/3/roof/set "open 15"

say "They are in Redis: redis-cli XRANGE history:greenhouse/3/roof/set - +"
wait_for 10 "two entries in Redis" reads XLEN history:greenhouse/3/roof/set = 2
redis --no-raw XRANGE history:greenhouse/3/roof/set - + | sed 's/^/  /'

say "The controller is back: same clean session, same subscription; then one live command"
device_on "$dir/second.txt"
wait_for 10 "the subscription" events subscribed 2
command_to greenhouse/3/mist/set "off"
wait_for 20 "four commands at the device" received "$dir/second.txt" 4
sed 's/^/  valve-controller <- /' "$dir/second.txt"

cat >"$dir/expected.txt" <<END
greenhouse/3/roof/set: open 40
greenhouse/3/mist/set: on
greenhouse/3/roof/set: open 15
greenhouse/3/mist/set: off
END
cmp -s "$dir/expected.txt" "$dir/second.txt" || die "the device did not receive what it missed, then the live one"
servers_alive
say "Exactly what it missed, in order, then the live one."
