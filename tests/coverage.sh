#!/bin/sh
# How much of config/, plugin/ and bridge/ the unit and scenario tests run, by file, with the numbers of the lines that nothing
# reaches. In build-coverage, where index.html shows it line by line.
set -eu

usage() {
	cat <<'END'
usage: sh tests/coverage.sh [--unit] [--help]
  --unit  unit tests only
END
}

label="unit|scenario"
case ${1:-} in
"") ;;
--unit) label=unit ;;
--help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
sh tests/packages.sh gcovr
build=build-coverage
# Counts survive a SIGKILL only as far as they were written: servers that tests kill add nothing.
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS="--coverage -fprofile-update=atomic" >/dev/null
cmake --build "$build" -j "$(nproc)" >"$build/log" 2>&1 || { tail -n 40 "$build/log"; exit 1; }
find "$build" -name '*.gcda' -delete
status=0
(cd "$build" && ctest -j 2 -L "$label" --output-on-failure >ctest.log 2>&1) || status=$?
if [ "$status" -ne 0 ]; then sed -n '/tests passed/,$p' "$build/ctest.log"; fi
gcovr --root . --object-directory "$build" --filter '(config|plugin|bridge)/' --exclude-throw-branches \
	--txt "$build/coverage.txt" --html-details "$build/index.html" >/dev/null
cat "$build/coverage.txt"
exit "$status"
