#!/bin/sh
# Consumers that apply each message once, killed at random moments: the sums are right. With MULTI/EXEC and the entry's
# id, with a Lua script in a consumer group, and a lock that keeps two workers off one device.
set -eu

cd "$(dirname "$0")/../.."
example=exactly-once-consumer
packages="python3 python3-redis"
. ./examples/common.sh

# start_slot N: slots 1 and 2 are consumers with MULTI/EXEC, 3 and 4 with the script, 5 to 7 workers with the lock.
start_slot() {
	folder=examples/exactly-once-consumer
	case $1 in
	1 | 2) spawn "multi-$1" /usr/bin/python3 $folder/consumer.py multi "$redis_port" ;;
	3 | 4) spawn "script-$1" /usr/bin/python3 $folder/consumer.py script "$redis_port" "consumer-$1" ;;
	*) spawn "locker-$1" /usr/bin/python3 $folder/locker.py "$redis_port" "worker-$1" ;;
	esac
	eval "slot_$1=$spawned"
}

# random_moment N: between 0.15 and 0.25 seconds; by awk, because sh has no random numbers.
random_moment() {
	sleep "$(awk -v seed="$1$$" 'BEGIN { srand(seed); printf "%.3f", 0.15 + rand() / 10 }')"
}

# readings METER: 1500 numbers from 1 to 100.
readings() {
	awk -v seed="$1" 'BEGIN { srand(seed); for (i = 0; i < 1500; i++) print int(rand() * 100) + 1 }'
}

sum_of() {
	readings "$1" | awk '{ sum += $1 } END { print sum }'
}

# sums_are_right HASH: are they what was published?
sums_are_right() {
	for meter in 1 2 3; do
		[ "$(redis --raw HGET "$1" "$meter")" = "$(sum_of "$meter")" ] || return 1
	done
}

all_applied() {
	last=$(redis --raw XREVRANGE readings + - COUNT 1 | head -n 1)
	[ "$(redis --raw GET sums:multi:position)" = "$last" ] || return 1
	[ "$(redis --raw XPENDING readings sums | head -n 1)" = 0 ] || return 1
	[ "$(redis --raw XINFO GROUPS readings | grep -A1 -x last-delivered-id | tail -n 1)" = "$last" ]
}

# conversations STEP [NAME]: how many lines of that kind?
conversations() {
	redis --raw LRANGE device:7:log 0 -1 | grep -c "^${2:-.*} $1 " || true
}

talked() {
	[ "$(conversations end "$1")" -ge "$2" ]
}

# goes_on NAME: it talks to the device again.
goes_on() {
	wait_for 20 "$1 to talk" talked "$1" $(($(conversations end "$1") + 3))
}

# Ends of conversations that are not the one begun last. (Where an end is missing, the worker was killed or paused.)
mixed_up() {
	redis --raw LRANGE device:7:log 0 -1 | awk '$2 == "begin" { open = $3 } $2 == "end" && $3 != open'
}

# talks NAME: it is in the middle of a conversation.
talks() {
	redis --raw LINDEX device:7:log -1 | grep -q "^$1 begin"
}

# shellcheck disable=SC2086
prepare $packages
settings <<END
mirror meters/+/kwh stream readings
END
show_settings
start_redis
start_broker

say "4500 readings of three meters, added up twice: by two consumers with MULTI/EXEC, by two with the script"
for slot in 1 2 3 4; do start_slot "$slot"; done
publishers=""
for meter in 1 2 3; do
	readings "$meter" | publish_lines "meter-$meter" "meters/$meter/kwh" &
	publishers="$publishers $!"
done

say "One of the script's consumers stands still with entries in hand, until others have claimed them, and goes on"
holds_4() { [ "$(held readings sums consumer-4)" -gt 0 ]; }
wait_for 30 "it to hold entries" holds_4
pause_when "$slot_4" "consumer 4" holds_4
claimed() { ! holds_4; }
wait_for 30 "the other to claim them" claimed
kill -CONT "$slot_4"
applied_by_another() { grep -q "applied by another" "$dir"/script-*.log; }
wait_for 30 "one of them to be refused" applied_by_another
echo "  entries that two tried to apply: $(cat "$dir"/script-*.log | grep -c "applied by another")"

say "One after the other is killed (SIGKILL) and started again"
for kill in 1 2 3 4 5 6 7 8; do
	random_moment "$kill"
	slot=$(((kill - 1) % 4 + 1))
	eval "victim=\$slot_$slot"
	kill_now "$victim"
	start_slot "$slot"
	echo "  kill $kill: MULTI at $(redis --raw GET sums:multi:position), script has" \
		"$(redis --raw XPENDING readings sums | head -n 1) pending"
done
for publisher in $publishers; do wait "$publisher" || die "a publisher failed"; done
wait_for 10 "4500 readings in Redis" reads XLEN readings = 4500
wait_for 60 "all of them applied" all_applied
for meter in 1 2 3; do
	echo "  meter $meter: published $(sum_of "$meter")," \
		"MULTI $(redis --raw HGET sums:multi "$meter"), script $(redis --raw HGET sums:script "$meter")"
done
check "the sums by MULTI/EXEC and the entry's id are right" sums_are_right sums:multi
check "the sums by script are right" sums_are_right sums:script
for slot in 1 2 3 4; do eval "stop_now \$slot_$slot"; done

say "Three workers and one device: a lock. One is killed, one paused longer than its lock lasts"
for slot in 5 6 7; do start_slot "$slot"; done
for slot in 5 6 7; do goes_on "worker-$slot"; done
for round in 1 2 3; do
	pause_when "$slot_5" worker-5 talks worker-5
	kill_now "$slot_5"
	start_slot 5
	goes_on worker-7
	pause_when "$slot_6" worker-6 talks worker-6
	goes_on worker-7
	kill -CONT "$slot_6"
	goes_on worker-6
	echo "  round $round: worker-5 killed, worker-6 paused, in the middle of a conversation"
done
echo "  conversations: $(conversations end), cut off: $(($(conversations begin) - $(conversations end)))," \
	"writes refused because the lock was lost: $(redis --raw GET refused)"
check "nobody wrote into another's conversation" [ -z "$(mixed_up)" ]
check "each of the paused worker's late writes was refused" [ "$(redis --raw GET refused)" -ge 3 ]
servers_alive
say "Applied once each, whoever was killed."
