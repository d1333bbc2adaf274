#!/bin/sh
# The programs in README.md of this folder, run as they stand there: each dies once with something in hand.
set -eu

cd "$(dirname "$0")/../.."
example=consumers
packages="python3 python3-redis nodejs node-redis"
. ./examples/common.sh

# block LANGUAGE: the code of README.md in that language.
block() {
	awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } /^```/ { inside = 0 } inside' examples/consumers/README.md
}

# handled FILE N: that many readings, each once.
handled() {
	seq "$2" | sed 's|^|sensors/plant |' >"$dir/expected.txt"
	sed 's/^[^ ]* //' "$1" | cmp -s - "$dir/expected.txt"
}

nothing_pending() {
	[ "$(redis --raw XPENDING sensors app | head -n 1)" = 0 ]
}

jobs_done() {
	for job in first second third; do grep -q "$job" "$1" || return 1; done
	[ "$(wc -l <"$1")" -eq 3 ]
}

# run WHAT COMMAND...: lines in WHAT.txt; its process is $spawned.
run() {
	to=$dir/$1
	shift
	REDIS_PORT=$redis_port "$@" >>"$to.txt" 2>>"$to.log" &
	spawned=$!
	pids="$spawned $pids"
}

# language NAME COMMAND...: all three programs, the worker of group and queue back from a death with one in hand.
language() {
	say "$1"
	name=$1
	shift
	redis DEL sensors jobs jobs:working:worker-1 totals position:totals >/dev/null
	rm -f "$dir/group.txt" "$dir/queue.txt" "$dir/position.txt"
	redis XGROUP CREATE sensors app 0 MKSTREAM >/dev/null
	seq 3 | publish_lines meter sensors/plant
	for job in first second third; do publish meter "jobs/$job/new" "$job"; done
	wait_for 20 "the messages" reads XLEN sensors = 3
	wait_for 20 "the jobs" reads LLEN jobs = 3
	redis XREADGROUP GROUP app worker-1 COUNT 1 STREAMS sensors '>' >/dev/null
	redis LMOVE jobs jobs:working:worker-1 RIGHT LEFT >/dev/null
	run group "$@" group worker-1; group=$spawned
	run queue "$@" queue worker-1; queue=$spawned
	run position "$@" position totals; position=$spawned
	wait_for 60 "the totals" reads HGET totals sensors/plant = 3
	wait_for 60 "the group" received "$dir/group.txt" 3
	wait_for 60 "the jobs" received "$dir/queue.txt" 3
	kill_now "$position"
	seq 4 5 | publish_lines meter sensors/plant
	run position "$@" position totals
	wait_for 60 "the rest of the totals" reads HGET totals sensors/plant = 5
	wait_for 60 "the rest of the group" received "$dir/group.txt" 5
	wait_for 60 "the last acknowledgement" nothing_pending
	wait_for 60 "the last job's end" reads LLEN jobs:working:worker-1 = 0
	check "the group handled all, what it had in hand first" handled "$dir/group.txt" 5
	check "the queue gave each job once" jobs_done "$dir/queue.txt"
	check "the one that remembers was killed and goes on where it was" handled "$dir/position.txt" 5
	for pid in "$group" "$queue" "$spawned"; do alive "$pid" "$name"; kill_now "$pid"; done
}

# shellcheck disable=SC2086
prepare $packages
settings <<END
mirror sensors/# stream sensors
mirror jobs/+/new list jobs
END
show_settings
start_redis
start_broker

block python >"$dir/consumer.py"
language Python /usr/bin/python3 "$dir/consumer.py"

mkdir "$dir/node_modules"
ln -s /usr/share/nodejs/redis "$dir/node_modules/redis"
block javascript >"$dir/consumer.mjs"
language Node env NODE_PATH=/usr/share/nodejs node "$dir/consumer.mjs"

if command -v go >/dev/null; then
	block go >"$dir/consumer.go"
	GO111MODULE=off GOCACHE=$dir/go-cache go build -o "$dir/consumer" "$dir/consumer.go" || die "the Go program does not build"
	language Go "$dir/consumer"
else
	say "Go is not installed here: its program was not run"
fi
if command -v javac >/dev/null; then
	block java >"$dir/Consumer.java"
	javac -d "$dir" "$dir/Consumer.java" || die "the Java program does not build"
	language Java java -cp "$dir" Consumer
else
	say "Java is not installed here: its program was not run"
fi
servers_alive
say "What the page says, works."
