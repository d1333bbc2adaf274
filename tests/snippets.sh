#!/bin/sh
# The consumers in README.md, run as they stand there (only the port is put in) against messages that were published.
set -eu

cd "$(dirname "$0")/.."
example=snippets
. ./examples/common.sh

# snippet TITLE: the indented lines behind the line that is the title.
snippet() {
	awk -v title="$1" '
		found && /^    / { print substr($0, 5); some = 1; next }
		found && some && NF { exit }
		$0 == title { found = 1 }' README.md
}

# printed FILE WANTED: has it printed these lines, after the ids?
printed() {
	[ "$(sed 's/^[0-9]*-[0-9]* //' "$1")" = "$2" ]
}

prepare python3 python3-redis nodejs node-redis
settings <<END
mirror sensors/# stream sensors:%2
mirror jobs/+/new list jobs
END
start_redis
start_broker
publish meter sensors/plant/a 1
publish meter sensors/plant/b 2

say "Python"
snippet "Python (redis-py):" | sed "s/redis\.Redis()/redis.Redis(port=$redis_port)/" >"$dir/snippet.py"
grep -q "port=$redis_port" "$dir/snippet.py" || die "README.md has no such snippet"
PYTHONUNBUFFERED=1 /usr/bin/python3 "$dir/snippet.py" >"$dir/python.txt" 2>"$dir/python.log" &
pids="$! $pids"

say "Node"
mkdir "$dir/node_modules"
ln -s /usr/share/nodejs/redis "$dir/node_modules/redis"
snippet "Node (node-redis):" | sed "s|createClient()|createClient({ url: \"redis://127.0.0.1:$redis_port\" })|" >"$dir/snippet.mjs"
grep -q ":$redis_port" "$dir/snippet.mjs" || die "README.md has no such snippet"
NODE_PATH=/usr/share/nodejs node "$dir/snippet.mjs" >"$dir/node.txt" 2>"$dir/node.log" &
pids="$! $pids"

wait_for 20 "what was there, in Python" received "$dir/python.txt" 2
wait_for 20 "what was there, in Node" received "$dir/node.txt" 2
publish meter sensors/plant/a 3
wait_for 20 "what came, in Python" received "$dir/python.txt" 3
wait_for 20 "what came, in Node" received "$dir/node.txt" 3
check "Python printed all, once" printed "$dir/python.txt" "sensors/plant/a b'1'
sensors/plant/b b'2'
sensors/plant/a b'3'"
check "Node printed all, once" printed "$dir/node.txt" "sensors/plant/a 1
sensors/plant/b 2
sensors/plant/a 3"

say "redis-cli"
publish meter jobs/1/new first
publish meter jobs/2/new second
publish meter jobs/3/new third
wait_for 10 "the jobs" reads LLEN jobs = 3
# cli WORD: the command of README.md that has this word, run.
cli() {
	sed -n "s/^    redis-cli \(.*$1 .*\)/redis-cli -p $redis_port --raw \1/p" README.md | sed 's/ *#.*//' >"$dir/command"
	[ "$(wc -l <"$dir/command")" -eq 1 ] || die "README.md has no one such command: $1"
	sh "$dir/command"
}
cli "XGROUP CREATE" >/dev/null
cli XREADGROUP >"$dir/group.txt"
check "XREADGROUP gives all to the group" [ "$(grep -c -x topic "$dir/group.txt")" -eq 3 ]
check "BRPOP takes the oldest job" [ "$(cli BRPOP | sed -n 's/.*"payload":"\([^"]*\)".*/\1/p')" = first ]
element=$(cli BLMOVE)
export element
check "BLMOVE takes the next" [ "$(echo "$element" | sed -n 's/.*"payload":"\([^"]*\)".*/\1/p')" = second ]
check "it is held" reads LLEN jobs:working = 1
check "LREM acknowledges it" [ "$(cli LREM)" = 1 ]
check "nothing is held" reads LLEN jobs:working = 0
servers_alive
say "What README.md says, works."
