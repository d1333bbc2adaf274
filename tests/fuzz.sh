#!/bin/sh
# Fuzzes every target of tests/fuzz with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, two at a time. New
# inputs stay in build-fuzz/corpus; what crashes a target stands in build-fuzz/found and belongs into
# tests/fuzz/corpus/<target> with its fix. The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/fuzz.sh [--seconds N] [--keep] [TARGET...]
  --seconds N  for each target (default 60)
  --keep       minimise what was found into tests/fuzz/corpus (before a commit)
END
}

seconds=60
keep=0
wanted=""
while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=$2; shift ;;
	--keep) keep=1 ;;
	--help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) wanted="$wanted $1" ;;
	esac
	shift
done

cd "$(dirname "$0")/.."
# libclang-rt: the sanitizers' runtime, a package of its own where clang's recommendations are not installed.
sh tests/packages.sh clang
version=$(clang -dumpversion | cut -d. -f1)
sh tests/packages.sh "libclang-rt-$version-dev"
CC=clang cmake -S . -B build-fuzz -DFUZZ=ON -DTESTS=OFF -DSANITIZE=address,undefined >/dev/null
mkdir -p build-fuzz/found
if [ -z "$wanted" ]; then
	for file in tests/fuzz/fuzz_*.c; do wanted="$wanted $(basename "$file" .c)"; done
fi
if ! cmake --build build-fuzz -j "$(nproc)" --target $wanted >build-fuzz/log 2>&1; then
	tail -n 40 build-fuzz/log
	echo "FAILED: build"
	echo "0 passed, 1 failed"
	exit 1
fi

# one TARGET: leaves TARGET.passed only where all went well; whatever else ends this early (a full disk) has failed.
one() {
	mkdir -p "build-fuzz/corpus/$1"
	inputs=$(find "build-fuzz/corpus/$1" "tests/fuzz/corpus/$1" -type f | wc -l)
	if "build-fuzz/$1" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 \
		-artifact_prefix="build-fuzz/found/$1-" "build-fuzz/corpus/$1" "tests/fuzz/corpus/$1" >"build-fuzz/$1.log" 2>&1; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *\([0-9][0-9]*\)$/\1/p' "build-fuzz/$1.log")
		if [ "${runs:-0}" -gt $((inputs + 1)) ]; then # those and the empty one are run in any case
			echo "$1: $runs runs, nothing found"
			: >"build-fuzz/$1.passed"
			return
		fi
		echo "FAILED: $1: ${runs:-no} runs, with $inputs inputs to begin with"
	else
		tail -n 60 "build-fuzz/$1.log"
		sed -n "s/^SUMMARY: /FAILED: $1: /p" "build-fuzz/$1.log"
	fi
}

passed=0
failed=0
set -- $wanted
while [ $# -gt 0 ]; do
	pair="$1 ${2:-}"
	for target in $pair; do
		rm -f "build-fuzz/$target.passed" "build-fuzz/$target.log"
		one "$target" &
	done
	wait
	for target in $pair; do
		if [ -e "build-fuzz/$target.passed" ]; then
			passed=$((passed + 1))
		else
			echo "FAILED: $target"
			failed=$((failed + 1))
		fi
		if [ "$keep" = 1 ]; then
			"build-fuzz/$target" -merge=1 -max_len=4096 "tests/fuzz/corpus/$target" "build-fuzz/corpus/$target" >/dev/null 2>&1
		fi
		shift
	done
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
