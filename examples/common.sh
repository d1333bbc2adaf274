# What the examples share; each sources it after setting `example` to its name. It leads to the top folder, sees to
# packages and build, starts servers on free loopback ports in a temporary folder, and ends and removes everything when
# the script ends, however it ends. A failure prints the logs and gives a non-zero status.
# shellcheck shell=sh disable=SC2034,SC2154

build=${MQR_BUILD:-$PWD/build}
dir=""
pids=""
ports_lock=""
redis_mode='--appendonly yes --appendfsync always'
broker_lines=""

say() {
	printf '\n* %s\n' "$*"
}

die() {
	printf '\n%s: %s\n' "$example" "$*" >&2
	exit 1
}

# check WHAT COMMAND...: a promise of this example.
check() {
	what=$1
	shift
	"$@" || die "NOT TRUE: $what"
	echo "  ok: $what"
}

# ended PID: has it ended (and perhaps not been waited for)?
ended() {
	! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null
}

finish() {
	status=$?
	trap - EXIT INT TERM
	for pid in $pids; do kill "$pid" 2>/dev/null || true; kill -CONT "$pid" 2>/dev/null || true; done
	tries=100
	for pid in $pids; do
		until ended "$pid" || [ "$tries" -eq 0 ]; do tries=$((tries - 1)); sleep 0.05; done
		ended "$pid" || kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ -n "$dir" ]; then
		if [ "$status" -ne 0 ]; then
			for log in "$dir"/*.log "$dir"/*.txt; do
				if [ -s "$log" ]; then printf '\n---- %s\n' "${log##*/}" >&2; tail -n 60 "$log" >&2; fi
			done
		fi
		rm -rf "$dir"
	fi
	if [ -n "$ports_lock" ]; then rm -f "$ports_lock"; fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds.
wait_for() {
	tries=$(($1 * 20))
	what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || die "waited in vain for $what"
		sleep 0.05
	done
}

# started PID NAME COMMAND...: waits for the command to succeed, as long as the program lives.
started() {
	started_pid=$1
	started_name=$2
	shift 2
	tries=300
	until "$@" >/dev/null 2>&1; do
		alive "$started_pid" "$started_name"
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || die "waited in vain for $started_name"
		sleep 0.05
	done
	alive "$started_pid" "$started_name"
}

# alive PID NAME: a program started here may have ended by itself.
alive() {
	if ended "$1"; then die "$2 ended by itself"; fi
}

# listening PORT: does a program listen there?
listening() {
	grep -qi ":$(printf '%04X' "$1") 00000000:0000 0A" /proc/net/tcp
}

# in_use PORT: has any socket here this port, of whatever kind and state?
in_use() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -qi "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$1") "
}

# ports_claim: sixteen ports for this script, $next_port the first. Which, is drawn; a lock on a file in the build folder,
# kept by the script and all that it starts, says that they are taken, so that scripts that run side by side never meet.
ports_claim() {
	until
		next_port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 600 * 16))
		ports_lock=$build/ports-$next_port
		exec 9>"$ports_lock" && flock -n 9
	do :; done
}

# free_port: the next of them, as $port, that no other program uses.
free_port() {
	while in_use "$next_port"; do next_port=$((next_port + 1)); done
	port=$next_port
	next_port=$((next_port + 1))
}

# spawn NAME COMMAND...: in the background, ended with the script; output to NAME.log; its process is $spawned.
spawn() {
	log=$dir/$1.log
	shift
	"$@" >>"$log" 2>&1 &
	spawned=$!
	pids="$spawned $pids"
}

# pause_when PID NAME COMMAND...: SIGSTOP at a moment when the command succeeds.
pause_when() {
	paused_pid=$1
	paused_name=$2
	shift 2
	tries=500
	until kill -STOP "$paused_pid" && sleep 0.02 && "$@"; do
		alive "$paused_pid" "$paused_name"
		kill -CONT "$paused_pid"
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || die "$paused_name never came to the point"
		sleep 0.01
	done
}

# forget PID: its number may be another process's one day.
forget() {
	kept=""
	for pid in $pids; do [ "$pid" = "$1" ] || kept="$kept $pid"; done
	pids=$kept
}

# kill_now PID: SIGKILL, and gone when this returns.
kill_now() {
	kill -9 "$1" || die "a program that was to be killed had ended by itself"
	wait "$1" 2>/dev/null || true
	forget "$1"
}

# finished PID: waits until a program ends by itself; its status is the result.
finished() {
	forget "$1"
	wait "$1" 2>/dev/null
}

# stop_now PID: SIGTERM, and gone when this returns.
stop_now() {
	kill "$1"
	finished "$1" || true
}

redis() {
	redis-cli -h 127.0.0.1 -p "$redis_port" "$@"
}

# reads REDIS_COMMAND... = VALUE: does Redis answer this?
reads() {
	asked=""
	while [ "$1" != = ]; do asked="$asked $1"; shift; done
	# shellcheck disable=SC2086
	[ "$(redis --raw $asked)" = "$2" ]
}

# held STREAM GROUP CONSUMER: how many entries it was given and has not acknowledged.
held() {
	redis --raw XPENDING "$1" "$2" - + 1000 "$3" | grep -c '^[0-9]*-[0-9]*$' || true
}

# received FILE N: has it at least N lines?
received() {
	[ "$(wc -l <"$1")" -ge "$2" ]
}

# prepare [PACKAGE...]: packages, build, temporary folder, ports.
prepare() {
	say "Packages and build (the first time this takes a minute)"
	sh tests/packages.sh "$@"
	dir=$(mktemp -d)
	generator=""
	if [ ! -f "$build/CMakeCache.txt" ]; then
		if command -v ninja >/dev/null; then generator="-G Ninja"; fi
		# shellcheck disable=SC2086
		cmake -S . -B "$build" $generator >"$dir/cmake.log" 2>&1 || die "cmake failed"
		rm "$dir/cmake.log"
	fi
	flock "$build" cmake --build "$build" -j "$(nproc)" --target mosquitto_redis mosquitto-redis-bridge mosquitto-redis-ctl \
		>"$dir/build.log" 2>&1 || die "the build failed"
	rm "$dir/build.log"
	mkdir "$dir/redis"
	ports_claim
	free_port; redis_port=$port
	free_port; broker_port=$port
}

# settings: the lines of standard input, behind those that say where the servers are; and mosquitto.conf.
settings() {
	{
		echo "redis_url redis://127.0.0.1:$redis_port/0"
		echo "broker_url mqtt://127.0.0.1:$broker_port"
		echo "journal $dir/journal"
		echo "journal_size 4M"
		echo "node $example"
		echo "listen none"
		echo "hold_timeout 60s" # a busy machine is no reason to go live ahead of what was missed
		cat
	} >"$dir/mosquitto-redis.conf"
	cat >"$dir/mosquitto.conf" <<END
plugin $build/plugin/mosquitto_redis.so
plugin_opt_config $dir/mosquitto-redis.conf
listener $broker_port 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
log_dest stderr
$broker_lines
END
	if [ "$(id -u)" -eq 0 ]; then echo "user root" >>"$dir/mosquitto.conf"; fi
}

# What was set, without this machine's folders.
show_settings() {
	sed -e "s|$dir/|.../|" -e 's/^/  /' "$dir/mosquitto-redis.conf"
	grep ^plugin "$dir/mosquitto.conf" | sed -e "s|$dir/|.../|" -e "s|$build/|.../|" -e 's/^/  /'
}

start_redis() {
	# shellcheck disable=SC2086
	spawn redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$dir/redis" --save "" $redis_mode
	redis_pid=$spawned
	started "$redis_pid" Redis reads PING = PONG
}

start_broker() {
	spawn mosquitto mosquitto -c "$dir/mosquitto.conf"
	broker_pid=$spawned
	started "$broker_pid" Mosquitto listening "$broker_port"
}

# greeted N: has the plugin accepted a bridge for the n-th time?
greeted() {
	[ "$(grep -c 'bridge: connected' "$dir/mosquitto.log")" -ge "$1" ]
}

# The plugin has accepted the bridge when this returns.
start_bridge() {
	greetings=$(grep -c 'bridge: connected' "$dir/mosquitto.log" || true)
	spawn bridge "$build/bridge/mosquitto-redis-bridge" -c "$dir/mosquitto-redis.conf"
	bridge_pid=$spawned
	started "$bridge_pid" "the bridge" greeted "$((greetings + 1))"
}

# publish CLIENT TOPIC PAYLOAD: QoS 1; fails when the broker does not acknowledge.
publish() {
	mosquitto_pub -h 127.0.0.1 -p "$broker_port" -i "$1" -q 1 -t "$2" -m "$3" || die "publish to $2"
}

# publish_lines CLIENT TOPIC: a message for each line of standard input, over one connection. mosquitto_pub 2.1 goes at the end
# of its input, whether or not everything was acknowledged, so that is put off for it.
publish_lines() {
	{
		cat
		case $(mosquitto_pub --version) in *"version 2.0"*) ;; *) sleep 2 ;; esac
	} | mosquitto_pub -h 127.0.0.1 -p "$broker_port" -i "$1" -q 1 -t "$2" -l || die "publish to $2"
}

# events OPERATION N: does the plugin's event stream tell of that operation at least N times? (A bridge that comes back is
# told again of those that still wait for something.)
events() {
	[ "$(redis --raw XRANGE "mqtt:events:$example" - + | grep -cx "$1")" -ge "$2" ]
}

# The servers must have borne it.
servers_alive() {
	alive "$redis_pid" Redis
	alive "$broker_pid" Mosquitto
	if [ -n "${bridge_pid:-}" ]; then alive "$bridge_pid" "the bridge"; fi
}
