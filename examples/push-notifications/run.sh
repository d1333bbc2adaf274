#!/bin/sh
# Two backends, in Python and in Node, push to a phone that is awake and to one that sleeps: now, later, and for a moment
# only. They learn what became of each push, and the phones say what they have shown.
set -eu

cd "$(dirname "$0")/../.."
example=push-notifications
packages="python3 python3-redis python3-paho-mqtt nodejs node-redis"
. ./examples/common.sh

# phone NAME: its process is $spawned; what it shows is in NAME.txt, one a line.
phone() {
	/usr/bin/python3 examples/push-notifications/device.py "$broker_port" "$1" "$dir/$1.shown" >>"$dir/$1.txt" 2>>"$dir/$1.log" &
	spawned=$!
	pids="$spawned $pids"
}

# backends WHAT DEVICE...: both, side by side, in the background.
backends() {
	rm -f "$dir"/python.log "$dir"/node.log
	spawn python /usr/bin/python3 examples/push-notifications/backend.py "$redis_port" "$@"
	python=$spawned
	spawn node env NODE_PATH=/usr/share/nodejs node examples/push-notifications/backend.js "$redis_port" "$@"
	node=$spawned
}

backends_done() {
	finished "$python" || die "backend.py failed"
	finished "$node" || die "backend.js failed"
	sed 's/^/  /' "$dir/python.log" "$dir/node.log"
}

# became ID OUTCOME: did both backends hear that?
became() {
	for language in python node; do grep -q "^$language-$1 $2" "$dir/$language.log" || return 1; done
}

# shows NAME PUSH...: has the phone shown these of both backends, each once, in this order, and nothing else?
shows() {
	shown_by=$1
	shift
	for language in python node; do
		for push in "$@"; do echo "$language-$push-$shown_by"; done >"$dir/expected.txt"
		grep "^$language" "$dir/$shown_by.txt" | cmp -s - "$dir/expected.txt" || return 1
	done
}

receipts() {
	redis --raw XRANGE receipts - + | grep -c "\"outcome\": \"$1\"" || true
}

# shellcheck disable=SC2086
prepare $packages
settings <<END
outbox stream pushes result=pushes:results
outbox list pushes:node result=pushes:results
mirror push/+/# stream push:%2 maxage=7d
redeliver push/%c/#
mirror receipts/+ stream receipts maxage=7d
END
show_settings
start_redis
start_broker
start_bridge

say "Two phones; the second one goes to sleep"
: >"$dir/phone-1.txt"
: >"$dir/phone-2.txt"
phone phone-1
phone phone-2
wait_for 20 "the subscriptions" events subscribed 2
wait_for 20 "both to be live" events live 2
kill_now "$spawned"
wait_for 20 "the end of the connection" events gone 1

say "A campaign: something now, something in four seconds, something for fifteen seconds; and a mistake"
backends campaign phone-1 phone-2
backends_done
campaign_ended=$(date +%s)
check "the phone that is awake was reached" became hello-phone-1 published
check "the one that sleeps was not" became hello-phone-2 no-subscribers
check "what was put off was pushed when its time came" became later-phone-1 published
check "the mistake went to the dead letters and stopped nothing" became mistake-+ dead
redis --raw XRANGE mqtt:dead - + | grep -A1 -x error | grep -v -x -e error -e -- | sort -u | sed 's/^/  mqtt:dead: /'
wait_for 20 "phone-1 to show it" shows phone-1 hello moment later
check "phone-1 has shown it all, each once, the later one last" shows phone-1 hello moment later

say "The bridge is away for longer than a sale lasts"
kill_now "$bridge_pid"
backends sale phone-1 phone-2
wait_for 20 "the pushes of the one" reads XLEN pushes = 4
wait_for 20 "the pushes of the other" reads LLEN pushes:node = 4
sleep 1.1
start_bridge
backends_done
check "the sale is over: not pushed" became sale-phone-1 expired
check "the news has time" became news-phone-1 published

say "phone-2 wakes up, when the moment is long over"
while [ "$(date +%s)" -lt "$((campaign_ended + 12))" ]; do sleep 0.1; done
phone phone-2
wait_for 20 "phone-2 to show what it missed" shows phone-2 hello later news
check "phone-2 shows what it missed, in order, without what came too late" shows phone-2 hello later news
shows phone-1 hello moment later news || die "phone-1 has not shown the news"
wait_for 20 "the receipts" reads XLEN receipts = 16
echo "  receipts: $(receipts shown) shown, $(receipts 'too late') too late"
check "the phones' receipts are in Redis" [ "$(receipts shown) $(receipts 'too late')" = "14 2" ]
servers_alive
say "Pushed at least once, shown once, and everybody knows."
