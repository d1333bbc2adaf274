#!/bin/sh
# Packages, build, all tests. The last line is "N passed, N failed"; the status is 0 when none failed.
set -eu

usage() {
	cat <<'END'
usage: sh tests/run.sh [--quick] [--matrix] [--valkey] [--sanitize] [--help]
  --quick     (or MQR_QUICK=1) unit and scenario tests of one build; no sanitizers, no analysis, no browser, no examples, no
              conformance tests
  --matrix    then the other Debian releases (tests/matrix.sh), the package in clean chroots (tests/install.sh; root,
              debootstrap) and fuzzing (tests/fuzz.sh)
  --valkey    all tests with valkey-server in place of redis-server, and some with redis-server; else the other way round
  --sanitize  only the sanitizers, over every test with servers instead of the chosen ones
With CI=true a skipped test counts as failed.
Where calls fail one after the other in real servers, it is a sample of them; MQR_FAULTS_ALL=1: all, which takes long;
MQR_FAULTS_SEED=N: the sample that a test has named so.
END
}

quick=${MQR_QUICK:-0}
matrix=0
valkey=0
sanitize_all=0
for option in "$@"; do
	case $option in
	--quick) quick=1 ;;
	--matrix) matrix=1 ;;
	--valkey) valkey=1 ;;
	--sanitize) sanitize_all=1 ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done

cd "$(dirname "$0")/.."
. tests/failures.sh
jobs=$(nproc)
waiting=$((2 * jobs)) # tests with servers wait more than they compute: a third of a core each
passed=0
failed=0
# Where addresses are randomised more than a sanitizer knows, it does not start; setarch -R turns that off.
plain=""
if setarch -R true 2>/dev/null; then plain="setarch -R"; fi
out=$(mktemp -d)
started=0
pids=""
trap 'for pid in $pids; do pkill -P "$pid" 2>/dev/null || true; done; rm -rf "$out"' EXIT
trap 'exit 130' INT TERM

began=$(date +%s)

# With the seconds since it began.
step() {
	printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - began))
}

# one_failed WHAT [FILE]: something that is not a ctest test went wrong; the file's end says how.
one_failed() {
	{
		echo "FAILED: $1"
		if [ -n "${2:-}" ]; then tail -n 5 "$2" | sed "s,^,FAILED: $1: ," | cut -c 1-240; fi
	} | tee -a "$out/failures"
	failed=$((failed + 1))
}

# build DIRECTORY CMAKE_OPTIONS TARGET...: false when it does not build.
build() {
	directory=$1
	options=$2
	shift 2
	generator=""
	if [ ! -f "$directory/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator="-G Ninja"; fi
	if ! cmake -S . -B "$directory" $generator -DWERROR=ON -DTESTS=ON $options >"$out/cmake" 2>&1; then
		cat "$out/cmake"
		one_failed "cmake $options" "$out/cmake"
		return 1
	fi
	if ! cmake --build "$directory" -j "$jobs" ${1:+--target "$@"} >"$out/build" 2>&1; then
		cat "$out/build"
		grep -E ': (fatal )?error: |undefined reference' "$out/build" >"$out/errors" || true
		one_failed "build $options" "$out/errors"
		return 1
	fi
}

# run_tests DIRECTORY JOBS CTEST_OPTION...: adds to the counts.
run_tests() {
	directory=$1
	parallel=$2
	shift 2
	status=0
	(cd "$directory" && $plain ctest --output-on-failure -j "$parallel" "$@") >"$out/ctest" 2>&1 || status=$?
	cat "$out/ctest"
	where="$directory${MQR_REDIS_SERVER:+, $MQR_REDIS_SERVER}${MQR_VALGRIND:+, valgrind}"
	line=$(sed -n 's/^.* tests passed, \([0-9]*\) tests* failed out of \([0-9]*\)$/\1 \2/p' "$out/ctest")
	if [ -z "$line" ]; then
		one_failed "no tests were run in $directory" "$out/ctest"
		return
	fi
	if [ "$status" -ne 0 ]; then test_failures "$where" "$out/ctest" >>"$out/failures"; fi
	bad=${line% *}
	all=${line#* }
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
	failed=$((failed + bad))
	passed=$((passed + all - bad))
	if [ "${CI:-}" = true ]; then
		skipped=$(grep -c '^\[  SKIPPED \] [^0-9]' "$directory/Testing/Temporary/LastTest.log" || true)
		if [ "${skipped:-0}" -gt 0 ]; then
			sed -n "s/^\[  SKIPPED \] \([^0-9].*\)/FAILED: $where: skipped: \1/p" "$directory/Testing/Temporary/LastTest.log" |
				tee -a "$out/failures"
			failed=$((failed + skipped))
		fi
	fi
}

# targets PATTERN...: names of the test programs behind source files.
targets() {
	for file in "$@"; do
		if [ -f "$file" ]; then basename "$file" .c; fi
	done
}

step packages
sh tests/packages.sh

# add_counted SCRIPT FILE: what a script of its own has printed; its last line is "N passed, N failed". Nothing of both: it has
# failed.
add_counted() {
	cat "$2"
	line=$(tail -n 1 "$2" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
	if [ -n "$line" ] && [ "$line" != "0 0" ]; then
		passed=$((passed + ${line% *}))
		failed=$((failed + ${line#* }))
		if [ "${line#* }" -gt 0 ]; then failures_of "$2" | sed "s,^FAILED: ,&$1: ," >>"$out/failures"; fi
	else
		one_failed "$1" "$2"
	fi
}

# counted SCRIPT OPTION...
counted() {
	sh "$@" >"$out/counted" 2>&1 || true
	add_counted "$1" "$out/counted"
}

# start NICE SCRIPT OPTION...: beside what comes; gather waits for all that was started. What has servers that must answer in
# time gets as much of the processor as others (0), the rest what is left (19).
start() {
	niceness=$1
	shift
	started=$((started + 1))
	echo "$*" >"$out/started$started"
	nice -n "$niceness" sh "$@" >"$out/beside$started" 2>&1 &
	pids="$pids $!"
}

gather() {
	for pid in $pids; do wait "$pid" || true; done
	for number in $(seq "$started"); do
		command=$(cat "$out/started$number")
		step "$command"
		add_counted "$command" "$out/beside$number"
	done
	pids=""
	started=0
}

# finish: what failed, shortly, and the last line.
finish() {
	if [ -s "$out/failures" ]; then
		step "what failed"
		awk '!seen[$0]++' "$out/failures" | head -n 120
	fi
	step result
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] || exit 1
	exit 0
}

step "build (warnings are errors)"
if [ "$sanitize_all" = 1 ]; then
	echo "not needed"
elif build build -DBENCH=ON; then
	step "unit tests"
	run_tests build 2 -L unit
	second=valkey-server
	if [ "$valkey" = 1 ]; then
		second=redis-server
		export MQR_REDIS_SERVER=valkey-server
	fi
	step "scenario tests, with ${MQR_REDIS_SERVER:-redis-server}"
	run_tests build "$waiting" -L scenario
	step "tests with it as it is run in production"
	run_tests build "$waiting" -L redis
	unset MQR_REDIS_SERVER
	if command -v "$second" >/dev/null; then
		step "those near it with $second in its place"
		export MQR_REDIS_SERVER="$second"
		run_tests build "$waiting" -R '^test_(redis_link|redis_settings|writer|mirror|redeliver|fsync|tls|sentinel)$'
		unset MQR_REDIS_SERVER
	fi
	if [ "$quick" != 1 ]; then
		step "metrics, alerts and dashboard with promtool, the status page with chromium"
		sh tests/packages.sh prometheus chromium
		run_tests build 1 -L extra
		step "examples; the benchmarks, in small"
		if sh tests/packages.sh $(sed -n 's/^packages="\(.*\)"$/\1/p' examples/*/run.sh tests/bench/run.sh); then
			run_tests build "$jobs" -L example
		else
			one_failed "packages of the examples"
		fi
	fi
fi

# Those that reach most code of plugin and bridge inside real servers, in little time.
asan_scenarios='^test_(mirror|crash|durability|reload|redeliver|outbox|ctl|http|trust)$'
tsan_scenarios='^test_(mirror|crash|durability|reload|trust)$'
if [ "$sanitize_all" = 1 ]; then
	asan_scenarios='^test_'
	tsan_scenarios='^test_'
fi

# scenarios PATTERN: their names, but for those that no sanitizer's build has (CMakeLists.txt says why).
scenarios() {
	targets tests/scenario/test_*.c tests/redis/test_*.c | grep -E "$1" | grep -v -x -e test_memory -e test_failing_calls -e test_cluster_faults
}

if [ "$quick" != 1 ] || [ "$sanitize_all" = 1 ]; then
	step "AddressSanitizer, UndefinedBehaviorSanitizer and LeakSanitizer: unit tests, and the plugin in a real broker"
	if build build-address -DSANITIZE=address,undefined $(targets tests/unit/test_*.c tests/fuzz/fuzz_*.c) \
		$(scenarios "$asan_scenarios"); then
		run_tests build-address 2 -L unit
		run_tests build-address 2 -L 'scenario|redis' -R "$asan_scenarios"
	fi
	step "ThreadSanitizer: what two threads share, and the plugin in a real broker"
	if build build-thread -DSANITIZE=thread \
		$(targets tests/unit/test_journal*.c tests/unit/test_report*.c tests/unit/test_confirm.c) \
		$(scenarios "$tsan_scenarios"); then
		run_tests build-thread 2 -L unit -R '^test_(journal|report|confirm)'
		run_tests build-thread 2 -L 'scenario|redis' -R "$tsan_scenarios"
	fi
fi
if [ "$sanitize_all" = 1 ]; then finish; fi
if [ "$quick" != 1 ]; then
	step "valgrind's memcheck: broker with the plugin, bridge and command line tool"
	sh tests/packages.sh valgrind libc6-dbg
	MQR_VALGRIND=1
	export MQR_VALGRIND
	run_tests build 2 -R '^test_(mirror|trust)$'
	unset MQR_VALGRIND
	step "the broker's own tests, without and with the plugin; beside them analysis, coverage, random kills and random devices"
	sh tests/packages.sh gcovr
	start 19 tests/analyse.sh
	start 19 tests/coverage.sh --unit
	start 0 tests/soak.sh --minutes 1
	start 0 tests/soak.sh --explore --seed 1 --minutes 1
	counted tests/conformance.sh
	gather
fi

if [ "$matrix" = 1 ]; then
	step "other Debian releases; beside them fuzzing, a minute each"
	start 19 tests/fuzz.sh
	counted tests/matrix.sh
	gather
	step "the package"
	counted tests/install.sh
fi

finish
