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

# killed WHO OPTIONS: Redis with these options is killed, alone or together with the broker. Sets first, second and away:
# how many of each thousand are there afterwards.
killed() {
	who=$1
	redis_mode=$2
	rm -rf "$dir/redis" "$dir/journal"
	mkdir "$dir/redis"
	start_redis
	start_broker
	readings 1 | publish_lines meter meters/1
	wait_for 20 "the first thousand in Redis" reads XLEN readings = "$count"
	if [ "$keeps" = snapshot ]; then redis BGSAVE >/dev/null; fi
	wait_for 20 "the first thousand out of Redis' buffers" in_the_kernel
	readings "$((count + 1))" | publish_lines meter meters/1
	wait_for 20 "the second thousand in Redis" reads XLEN readings = "$((2 * count))"
	wait_for 20 "its confirmation" reads HGET "mqtt:status:$example" stored = "$((2 * count))"
	kill_now "$redis_pid"
	if [ "$who" = both ]; then
		kill_now "$broker_pid"
		start_broker
	fi
	readings "$((2 * count + 1))" | publish_lines meter meters/1
	start_redis
	wait_for 30 "what was published meanwhile" last_is_there
	kept
	[ "$(redis XLEN readings)" -eq "$((first + second + away))" ] || die "$keeps: something is there twice"
	stop_now "$broker_pid"
	stop_now "$redis_pid"
}

# case_of WHO OPTIONS FIRST SECOND: at least so many of the first and second thousand must be there. Adds to $row.
case_of() {
	killed "$1" "$2"
	row="$row $(printf '%9s %6s %6s' "$first" "$second" "$away")"
	[ "$first" -ge "$3" ] || die "$keeps, $1: the first thousand"
	[ "$second" -ge "$4" ] || die "$keeps, $1: the second thousand"
	[ "$away" -eq "$count" ] || die "$keeps, $1: what was published while Redis was away"
}

# mode NAME OPTIONS FIRST SECOND SECOND_BOTH: a line of the table.
mode() {
	keeps=$1
	row=""
	case_of alone "$2" "$3" "$4"
	case_of both "$2" "$3" "$5"
	printf '  %-22s%s\n' "$keeps" "$row"
}

last_is_there() {
	redis --raw XREVRANGE readings + - COUNT 1 | grep -q "reading-$(printf '%05d' "$((3 * count))")"
}

prepare
settings <<END
mirror meters/# stream readings
END
show_settings

say "1000 acknowledged and stored, 1000 more, the kill, 1000 while Redis is away. What is there afterwards:"
printf '  %-22s %9s %6s %6s %9s %6s %6s\n' "" "Redis" "" "" "Redis," "broker" ""
printf '  %-22s %9s %6s %6s %9s %6s %6s\n' "Redis keeps" "first" "second" "away" "first" "second" "away"
mode "nothing" "--appendonly no" 0 0 0
nothing=$((first + second))
mode "snapshot" "--appendonly no" "$count" "$count" 0
snapshot=$second
mode "append-only, no" "--appendonly yes --appendfsync no" "$count" 0 0
mode "append-only, everysec" "--appendonly yes --appendfsync everysec" "$count" 0 0
mode "append-only, always" "--appendonly yes --appendfsync always" "$count" "$count" "$count"
printf '\n'
check "without any of them all is gone that Redis had confirmed" [ "$nothing" -eq 0 ]
check "a snapshot has what was there when it was made, and nothing since, when the broker dies too" [ "$snapshot" -eq 0 ]
check "the append-only file with appendfsync always has all that was confirmed" [ "$first$second" = "$count$count" ]
check "what was published while Redis was away is there in each, and nothing is there twice" [ "$away" -eq "$count" ]
