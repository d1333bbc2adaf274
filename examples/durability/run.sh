#!/bin/sh
# Snapshot or append-only file? The same load for five ways in which Redis may keep its data; then Redis is killed, and
# what is there afterwards stands in a table. What is published while Redis is away waits in the plugin's journal.
set -eu

cd "$(dirname "$0")/../.."
example=durability
. ./examples/common.sh

count=1000

# readings FROM: so many payloads, one a line.
readings() {
	seq -f 'reading-%05g' "$1" "$(($1 + count - 1))"
}

kept() {
	redis --raw XRANGE "readings" - + | grep '^reading-' | sort -u >"$dir/kept"
	readings 1 | sort >"$dir/first"
	readings "$((count + 1))" | sort >"$dir/second"
	readings "$((2 * count + 1))" | sort >"$dir/away"
	first=$(comm -12 "$dir/kept" "$dir/first" | wc -l)
	second=$(comm -12 "$dir/kept" "$dir/second" | wc -l)
	away=$(comm -12 "$dir/kept" "$dir/away" | wc -l)
}

# Everything the load has brought so far is out of Redis' own buffers: with the kernel, or in a snapshot.
in_the_kernel() {
	redis INFO persistence | tr -d '\r' >"$dir/info"
	! grep -q '^aof_buffer_length:[^0]' "$dir/info" && grep -q '^rdb_bgsave_in_progress:0' "$dir/info"
}

# mode NAME FIRST SECOND OPTION...: how many of the first and second half must at least be there.
mode() {
	name=$1
	first_min=$2
	second_min=$3
	redis_mode=$4
	rm -rf "$dir/redis" "$dir/journal"
	mkdir "$dir/redis"
	start_redis
	start_broker
	readings 1 | publish_lines meter meters/1
	wait_for 20 "the first half in Redis" reads XLEN readings = "$count"
	if [ "$name" = snapshot ]; then redis BGSAVE >/dev/null; fi
	wait_for 20 "the first half out of Redis' buffers" in_the_kernel
	readings "$((count + 1))" | publish_lines meter meters/1
	wait_for 20 "the second half in Redis" reads XLEN readings = "$((2 * count))"
	wait_for 20 "its confirmation" reads HGET "mqtt:status:$example" stored = "$((2 * count))"
	kill_now "$redis_pid"
	readings "$((2 * count + 1))" | publish_lines meter meters/1
	start_redis
	wait_for 30 "what was published meanwhile" last_is_there
	kept
	printf '  %-28s %8s %8s %8s\n' "$name" "$first" "$second" "$away" | tee -a "$dir/table"
	[ "$first" -ge "$first_min" ] || die "$name: the first half"
	[ "$second" -ge "$second_min" ] || die "$name: the second half"
	[ "$away" -eq "$count" ] || die "$name: what was published while Redis was away"
	[ "$(redis XLEN readings)" -eq "$((first + second + away))" ] || die "$name: something is there twice"
	stop_now "$broker_pid"
	stop_now "$redis_pid"
}

last_is_there() {
	redis --raw XREVRANGE readings + - COUNT 1 | grep -q "reading-$(printf '%05d' "$((3 * count))")"
}

prepare
settings <<END
mirror meters/# stream readings
END
show_settings

say "$count acknowledged and stored, $count more, Redis killed, $count while it is away. What is there afterwards:"
printf '  %-28s %8s %8s %8s\n' "Redis keeps" "first" "second" "away"
mode "nothing" 0 0 "--appendonly no"
nothing=$((first + second))
mode "snapshot" "$count" 0 "--appendonly no"
snapshot=$second
mode "append-only, no" "$count" 0 "--appendonly yes --appendfsync no"
mode "append-only, everysec" "$count" 0 "--appendonly yes --appendfsync everysec"
mode "append-only, always" "$count" "$count" "--appendonly yes --appendfsync always"
printf '\n'
check "without any of them all is gone that Redis had confirmed" [ "$nothing" -eq 0 ]
check "a snapshot has what was there when it was made, and nothing since" [ "$snapshot" -eq 0 ]
check "the append-only file with appendfsync always has all that was confirmed" [ "$first$second" = "$count$count" ]
check "what was published while Redis was away is there in each" [ "$away" -eq "$count" ]
