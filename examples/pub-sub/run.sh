#!/bin/sh
# Many publishers; live subscribers over MQTT; and groups of consumers in Redis, each of which gets every message once: one
# consumer first, then four, one of them killed.
set -eu

cd "$(dirname "$0")/../.."
example=pub-sub
packages="nodejs node-redis"
. ./examples/common.sh

publishers=8
each=250
all=$((publishers * each))

# consumer GROUP NAME MS: its process is $spawned.
consumer() {
	spawn "$1-$2" env NODE_PATH=/usr/share/nodejs node examples/pub-sub/consumer.js "$redis_port" "$1" "$2" "$3"
}

# What publisher N sends, as a subscriber prints it.
readings() {
	seq -f "sensors/$1/temperature %g" "$each"
}

# subscriber NAME FILTER
subscriber() {
	mosquitto_sub -h 127.0.0.1 -p "$broker_port" -i "$1" -q 1 -t "$2" -F '%t %p' >"$dir/$1.txt" 2>>"$dir/$1.log" &
	pids="$! $pids"
	subscribers="${subscribers:-} $1"
}

# all_of FILE: every message of every publisher, each publisher's in order.
all_of() {
	for n in $(seq "$publishers"); do
		readings "$n" >"$dir/expected.txt"
		grep "^sensors/$n/" "$1" | cmp -s - "$dir/expected.txt" || return 1
	done
	[ "$(wc -l <"$1")" -eq "$all" ]
}

# seen GROUP: what its consumers have handled, one a line.
seen() {
	redis --raw LRANGE "seen:$1" 0 -1
}

seen_at_least() {
	[ "$(redis LLEN "seen:$1")" -ge "$2" ]
}

each_once() {
	for n in $(seq "$publishers"); do readings "$n"; done | sort >"$dir/expected.txt"
	seen "$1" | sed 's/ [^ ]*$//' | sort | cmp -s - "$dir/expected.txt"
}

shares() {
	seen "$1" | sed 's/.* //' | sort | uniq -c | awk '{ printf "%s%s %s", sep, $2, $1; sep = ", " }'
}

nothing_pending() {
	[ "$(redis --raw XPENDING readings "$1" | head -n 1)" = 0 ]
}

holds() {
	[ "$(held readings "$1" "$2")" -gt 0 ]
}

# shellcheck disable=SC2086
prepare $packages
settings <<END
mirror sensors/# stream readings maxlen=1000000
redeliver sensors/#
END
show_settings
start_redis
start_broker
start_bridge

say "3 subscribers over MQTT, to everything and to a part; one consumer in the group alarms; $publishers publishers, $each each"
subscriber everything 'sensors/#'
subscriber everything-too '#'
subscriber one-sensor 'sensors/3/+'
wait_for 10 "the subscriptions" events subscribed 3
consumer alarms ann 20
ann=$spawned
senders=""
for n in $(seq "$publishers"); do
	seq "$each" | publish_lines "sensor-$n" "sensors/$n/temperature" &
	senders="$senders $!"
done
for sender in $senders; do wait "$sender" || die "a publisher failed"; done
for name in everything everything-too; do
	wait_for 20 "all messages at $name" received "$dir/$name.txt" "$all"
	check "$name has all $all, each publisher's in order" all_of "$dir/$name.txt"
done
wait_for 20 "the messages at one-sensor" received "$dir/one-sensor.txt" "$each"
readings 3 >"$dir/expected.txt"
check "one-sensor has its $each and no others" cmp -s "$dir/one-sensor.txt" "$dir/expected.txt"

say "One consumer is too slow: three more join the group"
wait_for 20 "the first entries" seen_at_least alarms 20
for name in ben cat dan; do
	consumer alarms "$name" 5
	eval "$name=$spawned"
done
before=$(redis LLEN seen:alarms)
echo "  $before handled by ann alone"
handles() { seen alarms | grep -q " $1\$"; }
for name in ben cat dan; do wait_for 20 "$name to take a share" handles "$name"; done

say "ben is killed (SIGKILL) with entries in hand; the others claim them after a second"
pause_when "$ben" ben holds alarms ben
echo "  ben holds $(held readings alarms ben) entries"
kill_now "$ben"
wait_for 60 "the rest" seen_at_least alarms "$all"
wait_for 20 "the last acknowledgement" nothing_pending alarms
cat "$dir"/alarms-*.log | sed 's/^/  /'
echo "  $(shares alarms)"
check "the group has handled each of $all once" each_once alarms
check "what ben held was claimed" grep -q claimed "$dir/alarms-ann.log" "$dir/alarms-cat.log" "$dir/alarms-dan.log"

say "A second group, made only now, reads the same from the beginning"
consumer archive eve 0
consumer archive fay 0
wait_for 60 "the archive" seen_at_least archive "$all"
wait_for 20 "its last acknowledgement" nothing_pending archive
echo "  $(shares archive)"
check "the archive has each of $all once" each_once archive
alive "$ann" ann
servers_alive
say "Every subscriber and every group has everything; within a group each message went to one consumer."
