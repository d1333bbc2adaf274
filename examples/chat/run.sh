#!/bin/sh
# A chat: rooms are topics, newcomers see the last 50 messages, members who were away see what they missed, an indexer
# makes the talk searchable; with command line clients, and with a page in headless Chromium over websockets.
set -eu

cd "$(dirname "$0")/../.."
example=chat
packages="python3 python3-redis chromium ca-certificates"
. ./examples/common.sh

# member NAME FILE: a clean session; each message a line of the file. Its process is $spawned.
member() {
	mosquitto_sub -h 127.0.0.1 -p "$broker_port" -i "chat-$1" -k 10 -q 1 -t 'chat/garden' -t 'chat/kitchen' \
		-F '%t %p' >"$2" 2>>"$dir/$1.log" &
	spawned=$!
	pids="$spawned $pids"
}

# talk NAME ROOM TEXT FROM TO: so many messages, numbered.
talk() {
	seq "$4" "$5" | sed "s/.*/{\"id\":\"$1-$2-&\",\"from\":\"$1\",\"text\":\"$3 &\"}/" | publish_lines "$1" "chat/$2"
}

# texts FILE: what a member saw, repeats (same id) taken out.
texts() {
	awk '!seen[$0]++' "$1" | sed 's/.*"text":"\([^"]*\)".*/\1/'
}

saw() {
	texts "$1" | cmp -s - "$dir/expected.txt"
}

search() {
	/usr/bin/python3 examples/chat/indexer.py "$redis_port" search "$1"
}

finds() {
	[ "$(search "$1")" = "$2" ]
}

start_indexer() {
	spawn indexer /usr/bin/python3 examples/chat/indexer.py "$redis_port"
	indexer=$spawned
}

command -v npm >/dev/null || packages="$packages npm"
# shellcheck disable=SC2086
prepare $packages
free_port; websockets_port=$port
free_port; page_port=$port
broker_lines="listener $websockets_port 127.0.0.1
protocol websockets"
settings <<END
mirror chat/+ stream chat:%2 maxlen=10000
redeliver chat/+ new=last=50
END
show_settings
start_redis
start_broker
start_bridge
start_indexer

say "60 messages in the garden, 3 in the kitchen; then cleo joins both rooms for the first time"
talk bob garden "watered the tomatoes" 1 60
talk bob kitchen "soup is ready" 1 3
member cleo "$dir/cleo-1.txt"
wait_for 20 "history" received "$dir/cleo-1.txt" 53
{ seq -f 'watered the tomatoes %g' 11 60; seq -f 'soup is ready %g' 1 3; } >"$dir/expected.txt"
check "the last 50 of the garden and all 3 of the kitchen, in order" saw "$dir/cleo-1.txt"

say "Her phone loses the network. Others talk on, in both rooms; the indexer is killed meanwhile and comes back"
kill_now "$spawned"
wait_for 10 "the end of the connection" events gone 1
talk dan kitchen "eating all the soup" 1 5
kill_now "$indexer"
talk bob garden "planted basil" 1 20
start_indexer
member cleo "$dir/cleo-2.txt"
wait_for 20 "the subscription" events subscribed 4
talk dan garden "live again" 1 1
missed() { texts "$dir/cleo-2.txt" | grep -q "live again"; }
wait_for 20 "the live message" missed
texts "$dir/cleo-2.txt" | grep -v -e tomatoes -e ready >"$dir/away.txt"
{ seq -f 'eating all the soup %g' 1 5; seq -f 'planted basil %g' 1 20; echo "live again 1"; } >"$dir/expected.txt"
check "what she missed in both rooms in the order in which it was said, then the live one" \
	cmp -s "$dir/expected.txt" "$dir/away.txt"
stop_now "$spawned"

say "Who said something about soup? indexer.py PORT search soup"
wait_for 20 "the index" finds again "garden dan: live again 1"
search soup | sed 's/^/  /'
check "5 and 3 messages, newest first" [ "$(search soup | sed -n '1p;8p;$p' | tr '\n' ',')" = \
	"kitchen dan: eating all the soup 5,kitchen bob: soup is ready 1,kitchen bob: soup is ready 1," ]
check "what was said while the indexer was dead is found" [ "$(search basil | wc -l)" -eq 20 ]

say "The page in Chromium, with mqtt.js over Mosquitto's websockets listener on port $websockets_port"
mkdir "$dir/page"
cp examples/chat/index.html "$dir/page"
(cd "$dir" && npm pack --loglevel error mqtt@5.10.4 >npm.log 2>&1) || die "mqtt.js could not be fetched"
tar -C "$dir/page" --strip-components=2 -xzf "$dir/mqtt-5.10.4.tgz" package/dist/mqtt.min.js
spawn page /usr/bin/python3 -m http.server --bind 127.0.0.1 --directory "$dir/page" "$page_port"
started "$spawned" "the page's server" listening "$page_port"
spawn browser /usr/bin/python3 -B examples/chat/test_page.py "http://127.0.0.1:$page_port/index.html" "$broker_port" \
	"$websockets_port" "$dir"
if ! finished "$spawned"; then die "the page does not do what it should"; fi
cat "$dir/browser.log"
servers_alive
say "History on joining, nothing missed, each message once."
