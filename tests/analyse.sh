#!/bin/sh
# Static analysis of config/, plugin/ and bridge/: clang-tidy (.clang-tidy says which checks, and why not others), cppcheck and
# gcc's -fanalyzer. The last line is "N passed, N failed".
set -eu

usage() {
	cat <<'END'
usage: sh tests/analyse.sh [--deep] [--help]
  --deep  clang-tidy with the checks of clang's path-sensitive analyzer, too (many minutes)
END
}

deep=0
case ${1:-} in
"") ;;
--deep) deep=1 ;;
--help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
sh tests/packages.sh clang-tidy cppcheck uthash-dev
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
jobs=$(nproc)
passed=0
failed=0

# verdict WHAT FILE: passed when the file is empty.
verdict() {
	if [ -s "$2" ]; then
		cat "$2"
		echo "FAILED: $1"
		grep -E ': (error|warning|portability|performance|style)|not analysed' "$2" | head -n 5 | sed "s/^/FAILED: $1: /" | cut -c 1-240
		failed=$((failed + 1))
	else
		echo "ok: $1"
		passed=$((passed + 1))
	fi
}

cmake -S . -B build-analyse -DTESTS=OFF -DLTO=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null
sources=$(ls config/*.c plugin/*.c bridge/*.c)

checks=-clang-analyzer-*
if [ "$deep" = 1 ]; then checks=""; fi
echo "$sources" | xargs -P "$jobs" -n 8 clang-tidy -p build-analyse --quiet --checks="$checks" >"$out/tidy" 2>"$out/tidy.err" ||
	{ [ -s "$out/tidy" ] || cat "$out/tidy.err" >"$out/tidy"; }
verdict clang-tidy "$out/tidy"

cppcheck -j "$jobs" --std=c11 --enable=warning,performance,portability --quiet --inline-suppr --library=posix \
	--suppressions-list=tests/analyse.cppcheck -D_GNU_SOURCE '-DMQR_VERSION="x"' -I. config plugin bridge \
	2>"$out/cppcheck" >"$out/cppcheck.out" || cat "$out/cppcheck.out" >>"$out/cppcheck"
verdict cppcheck "$out/cppcheck"

# Without its leaks: it does not see that memory stored through a pointer has an owner. LeakSanitizer and valgrind look for
# those. Without devices.c and groups.c, whose uthash macros it does not get through.
flags="-std=c11 -D_GNU_SOURCE -DMQR_VERSION=__FILE__ -I. -O1 -fanalyzer -Wno-analyzer-malloc-leak -c -o /dev/null"
flags="$flags $(pkg-config --cflags hiredis libcjson | sed 's/-I/-isystem /g')"
echo "$sources" | grep -v -e '^plugin/devices\.c$' -e '^plugin/groups\.c$' | xargs -P "$jobs" -I PLACE sh -c "timeout 120 gcc $flags PLACE 2>&1 || echo 'PLACE: not analysed'" \
	>"$out/gcc"
verdict "gcc -fanalyzer" "$out/gcc"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
