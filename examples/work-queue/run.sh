#!/bin/sh
# MQTT messages as jobs for several workers, first in, first out, with a list and with a stream; workers are killed in
# the middle of a job, and nothing is lost.
set -eu

cd "$(dirname "$0")/../.."
example=work-queue
packages="python3 python3-redis"
. ./examples/common.sh

# worker KIND NAME [MS]: its process is $spawned.
worker() {
	spawn "$2" /usr/bin/python3 examples/work-queue/worker.py "$1" "$redis_port" "$2" "${3:-0}"
}

# jobs FROM TO: one payload a line.
jobs() {
	seq -f 'job-%04g' "$1" "$2"
}

# done_jobs: payloads in the order in which they were done.
done_jobs() {
	redis --raw LRANGE done 0 -1 | sed 's/ .*//'
}

at_least() {
	[ "$(redis LLEN done)" -ge "$1" ]
}

all_done() {
	[ "$(done_jobs | sort -u | wc -l)" -eq "$1" ]
}

each_done() {
	jobs "$1" "$2" >"$dir/expected.txt"
	done_jobs | sort -u | cmp -s - "$dir/expected.txt"
}

repeats() {
	echo $(($(redis LLEN done) - $(done_jobs | sort -u | wc -l)))
}

# taken_over KIND: jobs put back by the reaper, or claimed.
taken_over() {
	cat "$dir/reaper.log" "$dir/$1"-*.log | awk -v kind="$1" '$0 ~ kind { n += $1 } END { print n + 0 }'
}

# holds KIND NAME: a job is taken and not yet acknowledged.
holds() {
	if [ "$1" = list ]; then
		[ "$(redis LLEN "jobs:working:$2")" -gt 0 ]
	else
		[ "$(held orders workers "$2")" -gt 0 ]
	fi
}

# kill_in_the_middle KIND NAME PID: SIGKILL at a moment when it surely holds a job.
kill_in_the_middle() {
	pause_when "$3" "$2" holds "$1" "$2"
	kill_now "$3"
	echo "  $2 killed while it held: $(if [ "$1" = list ]; then redis --raw LRANGE "jobs:working:$2" 0 -1
		else redis --raw XPENDING orders workers - + 10 "$2" | head -n 1; fi)"
}

# three_workers KIND: 300 jobs, two of three workers are killed, a fresh one comes.
three_workers() {
	redis DEL done >/dev/null
	jobs 1 300 | publish_lines planner "$2"
	worker "$1" "$1-ann" 20
	ann=$spawned
	worker "$1" "$1-ben" 20
	ben=$spawned
	worker "$1" "$1-cat" 20
	wait_for 30 "the first jobs" at_least 20
	kill_in_the_middle "$1" "$1-ann" "$ann"
	kill_in_the_middle "$1" "$1-ben" "$ben"
	worker "$1" "$1-dan" 20
	wait_for 60 "300 jobs done" all_done 300
	check "each of 300 jobs was done" each_done 1 300
	check "done twice: $(repeats), taken over from others: $(taken_over "$1")" [ "$(repeats)" -le "$(taken_over "$1")" ]
	check "what the dead workers held was taken over" [ "$(taken_over "$1")" -ge 2 ]
}

# shellcheck disable=SC2086
prepare $packages
settings <<END
mirror jobs/+/new list jobs
mirror orders/+/new stream orders maxlen=100000
END
show_settings
start_redis
start_broker

say "A list as queue: one worker, in order (jobs were published before it came)"
jobs 1 100 | publish_lines planner jobs/press/new
worker list solo
solo=$spawned
wait_for 30 "100 jobs done" all_done 100
jobs 1 100 >"$dir/expected.txt"
done_jobs >"$dir/order.txt"
check "first in, first out" cmp -s "$dir/expected.txt" "$dir/order.txt"
stop_now "$solo"

say "A list as queue: three workers, two killed while they work; a reaper puts back what they held"
spawn reaper /usr/bin/python3 examples/work-queue/worker.py reap "$redis_port"
three_workers list jobs/press/new
wait_for 20 "an empty queue" reads LLEN jobs = 0
wait_for 10 "the last acknowledgements" reads KEYS 'jobs:working:*' = ""
check "nothing is held by anybody" reads KEYS 'jobs:working:*' = ""
sed 's/^/  reaper: /' "$dir/reaper.log"

say "A stream with a consumer group: the same; the others claim what the dead ones held"
three_workers stream orders/press/new
pending() { [ "$(redis --raw XPENDING orders workers | head -n 1)" = 0 ]; }
wait_for 10 "the last acknowledgements" pending
check "nothing is pending" pending
cat "$dir"/stream-*.log | sed 's/^/  /'
servers_alive
say "Every job was done, although workers died."
