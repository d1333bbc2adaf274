#!/bin/sh
# Measures mosquitto-redis against plain Mosquitto, Redis alone and what people would use instead, on this machine, in one run.
# Prints a table; writes it, the raw numbers, a plot and the programs' output to a folder.
set -eu

usage() {
	cat <<'END_USAGE'
usage: sh tests/bench/run.sh [--quick] [--smoke] [--only NAME] [--out FOLDER] [--help]
  --quick   fewer messages and rounds: a minute or two instead of some twenty
  --smoke   hardly any, in the build that is there (MQR_BUILD or build-bench), no installing: does everything still run, is
            nothing lost? The figures mean nothing
  --only    one of: instructions groups throughput mirror sidecar latency backlog memory reconnect storm outbox cluster
  --out     where to write; build-bench/results unless given
The machine should have nothing else to do. Status 0: all ran and nothing was lost, whatever the figures.
END_USAGE
}

size=full
only=""
out=""
while [ $# -gt 0 ]; do
	case $1 in
	--quick) size=quick ;;
	--smoke) size=smoke ;;
	--only) only=${2:?}; shift ;;
	--out) out=${2:?}; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

cd "$(dirname "$0")/../.."
build=${MQR_BUILD:-$PWD/build-bench}
out=${out:-$build/results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
raw=$out/raw.tsv
: >"$raw"
failed=""

# wanted NAME: is this one to be run?
wanted() {
	[ -z "$only" ] || [ "$only" = "$1" ]
}

# by_size FULL QUICK SMOKE: the one for this run.
by_size() {
	case $size in
	full) echo "$1" ;;
	quick) echo "$2" ;;
	smoke) echo "$3" ;;
	esac
}

# run PROGRAM ARGUMENT...: one benchmark; its figures go to the raw numbers.
run() {
	echo "== $*"
	name=$1
	before=$(wc -l <"$raw")
	shift
	if ! MQR_FIGURES=$raw timeout 900 "$build/$name" "$@" >>"$out/$name.log" 2>&1; then
		tail -n 40 "$out/$name.log"
		failed="$failed $name"
	elif [ "$(wc -l <"$raw")" -eq "$before" ]; then
		failed="$failed $name(no figures)"
	fi
}

# tests/run.sh reads this line, too.
packages="valgrind gnuplot-nox python3-redis python3-paho-mqtt"
if [ "$size" != smoke ]; then
	node_packages=""
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then node_packages="nodejs npm"; fi
	sh tests/packages.sh $packages $node_packages
	mkdir -p "$build"
	flock "$build" cmake -S . -B "$build" -DTESTS=ON -DBENCH=ON >"$out/build.log"
	flock "$build" cmake --build "$build" -j "$(nproc)" >>"$out/build.log"
fi
for log in "$out"/*.log; do
	case $log in */build.log) ;; *) rm -f "$log" ;; esac
done

# aedes wants Node 20; where it cannot be had, what needs it is left out of the table.
if [ "$size" != smoke ]; then
	mkdir -p "$build/node"
	cp tests/bench/peers/*.mjs "$build/node/"
	if (cd "$build/node" && npm install --no-audit --no-fund aedes@1 aedes-persistence-redis@11 mqemitter-redis@7 ioredis@5 mqtt@5) \
		>"$out/npm.log" 2>&1; then
		MQR_BENCH_NODE=$build/node
		export MQR_BENCH_NODE
	else
		echo "npm could not install the packages of the Node sidecar and aedes: left out"
	fi
fi

began=$(date +%s)
if wanted instructions; then run instructions "$(by_size 20000 5000 1000)"; fi
if wanted groups; then run groups "$(by_size 20000 4000 1000)"; fi
if wanted throughput; then run throughput "$(by_size 100000 40000 2000)" "$(by_size 5 3 1)"; fi
if wanted mirror; then run mirror "$(by_size 200000 60000 4000)" "$(by_size 5 3 1)"; fi
if wanted sidecar; then run sidecar "$(by_size 5000 4000 1000)" "$(by_size 5 3 1)" "$(by_size 3 1 1)"; fi
if wanted latency; then run latency "$(by_size 5000 5000 1000)" "$(by_size 3 1 1)"; fi
if wanted backlog; then
	run backlog "$(by_size 10000 10000 1000)" "$(by_size 3 1 1)"
	case $size in
	full) run backlog 100000 3 100000 ;; # aedes: some minutes
	quick) run backlog 100000 1 ;;
	esac
fi
if wanted memory && [ "$size" = full ]; then run backlog 1000000 1; fi
if wanted reconnect; then run reconnect "$(by_size 1000000 10000 100)" "$(by_size 31 15 1)"; fi
if wanted storm; then
	run storm "$(by_size 2000 500 20)" "$(by_size 200 50 5)" "$(by_size 800 200 5)"
fi
if wanted outbox; then run outbox "$(by_size 100000 20000 1000)" "$(by_size 3 3 1)"; fi
if wanted cluster; then run cluster "$(by_size 30000 10000 2000)"; fi

awk -f tests/bench/table.awk "$raw" >"$out/table.md"
cat "$out/table.md"
# Each row with a target: how many times better than it. 1 is the target.
awk -v plot=1 -f tests/bench/table.awk "$raw" >"$out/plot.tsv"
if command -v gnuplot >/dev/null && [ -s "$out/plot.tsv" ]; then
	gnuplot -e "data='$out/plot.tsv'; picture='$out/plot.svg'" tests/bench/plot.gp
fi
echo
echo "raw numbers, plot and output: $out ($(($(date +%s) - began)) s)"
wrong=$(awk -F '\t' '$1 == "wrong" && $3 != 0 { print "lost, repeated or overtaken: " $3 " messages in " $2 }' "$raw")
if [ -n "$wrong" ]; then echo "$wrong"; fi
if [ -n "$failed" ]; then echo "did not run to its end:$failed"; fi
[ -z "$wrong$failed" ]
