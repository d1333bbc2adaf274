#!/bin/sh
# Two Mosquitto brokers with one Redis: a device that moves from one to the other gets what it missed from both, in order.
set -eu

cd "$(dirname "$0")/../.."
example=two-brokers
. ./examples/common.sh

# node NAME PORT: settings, mosquitto.conf, broker and bridge of one node.
node() {
	{
		echo "redis_url redis://127.0.0.1:$redis_port/0"
		echo "broker_url mqtt://127.0.0.1:$2"
		echo "journal $dir/journal-$1"
		echo "journal_size 4M"
		echo "node $1"
		echo "listen none"
		echo "mirror fleet/# stream fleet:%n maxlen=100000"
		echo "redeliver fleet/#"
	} >"$dir/$1.conf"
	{
		echo "plugin $build/plugin/mosquitto_redis.so"
		echo "plugin_opt_config $dir/$1.conf"
		echo "listener $2 127.0.0.1"
		echo "allow_anonymous true"
		echo "max_queued_messages 0"
		echo "log_dest stderr"
		if [ "$(id -u)" -eq 0 ]; then echo "user root"; fi
	} >"$dir/mosquitto-$1.conf"
	spawn "mosquitto-$1" mosquitto -c "$dir/mosquitto-$1.conf"
	started "$spawned" "Mosquitto $1" listening "$2"
	spawn "bridge-$1" "$build/bridge/mosquitto-redis-bridge" -c "$dir/$1.conf"
	started "$spawned" "the bridge of $1" grep -q 'bridge: connected' "$dir/mosquitto-$1.log"
	sed -n '/^node\|^mirror\|^redeliver/s/^/  /p' "$dir/$1.conf"
}

# at NODE OPERATION N: has this session event been stored for the n-th time?
at() {
	[ "$(redis --raw XRANGE "mqtt:events:$1" - + | grep -cx "$2")" -ge "$3" ]
}

# truck PORT FILE: the device; its process is $truck. Clean session, QoS 1.
truck() {
	mosquitto_sub -h 127.0.0.1 -p "$1" -i truck-7 -q 1 -t 'fleet/#' -F '%t: %p' >"$2" 2>>"$dir/truck.log" &
	truck=$!
	pids="$pids $truck"
}

# order PORT TOPIC PAYLOAD
order() {
	mosquitto_pub -h 127.0.0.1 -p "$1" -i dispatcher -q 1 -t "$2" -m "$3" || die "publish to $2"
	echo "  dispatcher -> $2: $3"
}

prepare
start_redis
north_port=$broker_port
free_port; south_port=$port

say "Two brokers, each with its bridge; %n in the key keeps their streams apart"
node north "$north_port"
node south "$south_port"

say "A truck is connected in the north, and drives off"
truck "$north_port" "$dir/first.txt"
wait_for 20 "the subscription" at north live 1
kill_now "$truck"
wait_for 20 "the end of the connection" at north gone 1

say "Orders at both brokers"
order "$north_port" fleet/north "load at gate 4"
wait_for 20 "it in Redis" reads XLEN fleet:north = 1
order "$south_port" fleet/south "unload at gate 1"
wait_for 20 "it in Redis" reads XLEN fleet:south = 1
order "$north_port" fleet/north "bring the pallets back"
wait_for 20 "it in Redis" reads XLEN fleet:north = 2

say "It arrives in the south"
truck "$south_port" "$dir/second.txt"
wait_for 20 "three orders" received "$dir/second.txt" 3
sed 's/^/  truck-7 <- /' "$dir/second.txt"
cat >"$dir/expected.txt" <<END
fleet/north: load at gate 4
fleet/south: unload at gate 1
fleet/north: bring the pallets back
END
check "it got what it missed from both brokers, in order" cmp -s "$dir/expected.txt" "$dir/second.txt"

say "While it is there, an order is left in the north; it comes when the truck is back"
wait_for 20 "the truck to be live" at south live 1
order "$north_port" fleet/north "wash"
wait_for 20 "it in Redis" reads XLEN fleet:north = 3
kill_now "$truck"
wait_for 20 "the end of the connection" at south gone 1
truck "$north_port" "$dir/third.txt"
wait_for 20 "the order" grep -qx 'fleet/north: wash' "$dir/third.txt"
sed 's/^/  truck-7 <- /' "$dir/third.txt"
say "One Redis, two brokers, nothing missed."
