#!/bin/sh
# How much of config/, plugin/ and bridge/ the tests run, by file, with the numbers of the lines that nothing reaches; in
# build-coverage, where index.html shows it line by line. Fails when a test does, and when a branch of journal, pipeline or
# redelivery is reached by none: every block of a line counts, so that "if (x) return y;" wants both. One that no test can
# reach says so at its line or right above: "unreached: REASON". The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END_OF_USAGE'
usage: sh tests/coverage.sh [--unit] [--report] [--help]
  --unit    unit tests only, which must reach all of it but writer and cluster_writer: those are nothing without a Redis
  --report  no tests: what the last runs have counted
END_OF_USAGE
}

unit=0
run=1
case ${1:-} in
"") ;;
--unit) unit=1 ;;
--report) run=0 ;;
--help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
. tests/failures.sh
sh tests/packages.sh gcovr
build=build-coverage
passed=0
failed=0

# run_tests JOBS LABELS: adds to the counts.
run_tests() {
	status=0
	(cd "$build" && ctest -j "$1" -L "$2" --output-on-failure >ctest.log 2>&1) || status=$?
	set -- $(sed -n 's/^.* tests passed, \([0-9]*\) tests* failed out of \([0-9]*\)$/\1 \2/p' "$build/ctest.log")
	bad=${1:-1}
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
	passed=$((passed + ${2:-1} - bad))
	failed=$((failed + bad))
	if [ "$status" -ne 0 ]; then test_failures "$build" "$build/ctest.log"; fi
	skipped=$(sed -n "s/^\[  SKIPPED \] \([^0-9].*\)/FAILED: $build: skipped: \1/p" "$build/Testing/Temporary/LastTest.log")
	if [ "${CI:-}" = true ] && [ -n "$skipped" ]; then
		echo "$skipped"
		failed=$((failed + 1))
	fi
}

if [ "$run" = 1 ]; then
	# What is killed with SIGKILL writes no counts; every scenario also ends servers with SIGTERM.
	generator=""
	if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator="-G Ninja"; fi
	cmake -S . -B "$build" $generator -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS="--coverage -fprofile-update=atomic" >/dev/null
	targets=all
	if [ "$unit" = 1 ]; then targets=$(ls tests/unit/test_*.c tests/fuzz/fuzz_*.c | sed 's,.*/\(.*\)\.c,\1,'); fi
	if ! cmake --build "$build" -j "$(nproc)" --target $targets >"$build/log" 2>&1; then
		tail -n 40 "$build/log"
		echo "FAILED: build"
		echo "0 passed, 1 failed"
		exit 1
	fi
	find "$build" -name '*.gcda' -delete
	run_tests 2 unit
	if [ "$unit" = 0 ]; then run_tests $((2 * $(nproc))) 'scenario|redis'; fi
fi
gcovr --root . --object-directory "$build" --filter '(config|plugin|bridge)/' --exclude-throw-branches \
	--exclude-directories '.*CompilerIdC' --txt "$build/coverage.txt" --html-details "$build/index.html" >/dev/null
cat "$build/coverage.txt"

# The parts whose error branches must be reached.
strict() {
	ls plugin/journal*.c plugin/pipeline*.c plugin/transaction*.c plugin/stretch.c plugin/spread*.c plugin/writer*.c \
		plugin/cluster_writer.c plugin/slot_*.c plugin/devices.c plugin/device_*.c plugin/groups.c plugin/group_*.c \
		plugin/handover.c plugin/window.c plugin/owed.c plugin/peer.c plugin/replay.c plugin/kept_file.c \
		plugin/session_*.c plugin/watch.c plugin/handed.c plugin/turns.c plugin/untold.c bridge/catch_up*.c bridge/fetch*.c \
		bridge/merge.c bridge/scheduler*.c bridge/cursors.c bridge/tokens.c bridge/device_*.c bridge/sweep*.c bridge/lock*.c \
		bridge/had*.c bridge/gap.c bridge/requests.c |
		if [ "$unit" = 1 ]; then grep -v -e '^plugin/writer[._]' -e '^plugin/cluster_writer\.c$'; else cat; fi
}

# unreached_in SOURCE: FILE:LINE: TEXT of what gcov's report on one program tells. It marks a line that never ran with #####, one with blocks that did not with *.
unreached_in() {
	awk -v source="$1" '
		/^ *-: *0:Source:/ { mine = substr($0, length($0) - length(source) + 1) == source }
		!mine { next }
		{
			split($0, part, ":")
			count = part[1]
			text = $0
			sub(/^[^:]*:[^:]*:[ \t]*/, "", text)
			if (text ~ /assert\(|(HASH|DL)_[A-Z0-9_]*\(/) next # the other way of an assert; what is within uthash
			excused = index(text, "unreached: ") > 0
			if ((count ~ /#####/ || count ~ /\*$/) && !excused && !before) print source ":" part[2] + 0 ": " text
			before = excused && (count ~ /-/ || text ~ /^case /)
		}'
}

# The same of all; of what is part of several programs that which each of them leaves out.
unreached() {
	for source in $(strict); do
		counts=$(find "$build" -path "*/$source.gcda")
		if [ -z "$counts" ]; then
			echo "$source:0: nothing of it ran"
			continue
		fi
		for program in $counts; do gcov -t "$program" 2>/dev/null | unreached_in "$source"; done |
			sort -t : -k 2n | uniq -c |
			awk -v programs="$(echo "$counts" | wc -l)" '$1 == programs { sub(/^ *[0-9]+ /, ""); print }'
	done
}

unreached >"$build/unreached.txt"
if [ -s "$build/unreached.txt" ]; then
	sed 's/^/FAILED: unreached: /' "$build/unreached.txt"
	failed=$((failed + 1))
else
	passed=$((passed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
