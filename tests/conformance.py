"""Runs the tests of test/broker in DIRECTORY/without and DIRECTORY/with: two copies of Mosquitto's source, of which only the
tests are used. In place of the broker that a build would leave in src/ stands a script that starts the installed one; in `with`
it adds our plugin's lines to the configuration. A test that fails is run twice more, alone; which ones needed that with the
plugin only is printed, as such a one may show a race. Tests that fail without the plugin too (they want parts of the build that
are not here) show nothing and are counted apart; all others must pass with it.

The plugin mirrors everything, into a Redis, and has a grant for topics that the tests do not use.
"""
import concurrent.futures
import fcntl
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

WORKERS = 8
TRIES = 3
TIMEOUT_S = 60
USABLE_MIN = 120  # fewer would mean that the tests are not run as they should be

# What takes long, is about other programs than the broker, or about its command line and configuration file, which the
# script above the broker is not like; tests that do not wait for their broker (for its start, or until it has seen connections
# end that count towards max_connections); and those that load plugins before the first listener with per_listener_settings, where
# ours could not stand first.
LEFT_OUT = re.compile(r"^(06-bridge|08-|09-plugin-load|14-dynsec|15-db-dump|16-c|17-|20-|21-|22-|01-connect-unix-socket"
                      r"|01-connect-(global-)?max-connections|msg_sequence|.*websocket|.*-ws)")

WRAPPER = """#!/bin/sh
# %(side)s our plugin
set -eu
plugin=%(plugin)s
[ -n "$plugin" ] || exec %(broker)s "$@"
own=$(mktemp -d %(directory)s/run.XXXXXX)
chmod 777 "$own"
cat >"$own/settings" <<END
redis_url unix://%(redis)s
journal $own/journal
journal_size 1M
node conformance-$$
prefix conformance-$$
mirror # stream conformance:%%t maxlen=100
redeliver granted/to/%%c/#
END
conf=
previous=
for argument in "$@"; do
	if [ "$previous" = -c ]; then conf=$argument; fi
	previous=$argument
done
lines="plugin $plugin
plugin_opt_config $own/settings"
{
	if [ -n "$conf" ] && grep -q '^per_listener_settings true' "$conf"; then
		awk -v lines="$lines" '{ print } !done && /^(listener|port) / { print lines; done = 1 }' "$conf"
	else
		echo "$lines"
		[ -z "$conf" ] || cat "$conf"
	fi
} >"$own/conf"
chmod 644 "$own/conf" "$own/settings"
if [ -z "$conf" ]; then exec %(broker)s "$@" -c "$own/conf"; fi
for argument in "$@"; do
	shift
	if [ "$argument" = "$conf" ]; then argument=$own/conf; fi
	set -- "$@" "$argument"
done
exec %(broker)s "$@"
"""


def own_network():
    """A network of our own, so that the tests' ports are free. Root only; else the machine's."""
    try:
        os.unshare(os.CLONE_NEWNET)
    except AttributeError:  # Python before 3.12
        import ctypes
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:
            return
    except OSError:
        return
    with socket.socket() as s:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS


def prepare(directory, side, plugin, redis):
    root = directory / side
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    wrapper = root / "src" / "mosquitto"
    wrapper.write_text(WRAPPER % {"side": side, "plugin": plugin, "broker": broker, "directory": directory,
                                  "redis": redis})
    wrapper.chmod(0o755)
    # Small plugins and clients that some of the tests want.
    for source in sorted((root / "test/broker/c").glob("*.c")):
        library = "plugin" in source.name or "auth" in source.name
        target = source.with_suffix(".so" if library else ".test")
        how = ["-fPIC", "-shared"] if library else []
        subprocess.run(["cc", "-w", "-I" + str(root / "include"), *how, str(source), "-o", str(target), "-lmosquitto"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    # A broker that must fail has a second for it, which is not enough on a busy machine.
    helper = root / "test/mosq_test.py"
    helper.write_text(helper.read_text().replace("broker.wait(timeout*10)", "broker.wait(timeout*200)"))
    for path in (root / "test/broker").rglob("*"):
        path.chmod(path.stat().st_mode | 0o755)
    (root / "test/broker").chmod(0o777)


def tests_of(directory, pattern):
    """(ports, name) as in test.py."""
    text = (directory / "without/test/broker/test.py").read_text()
    found = re.findall(r"^\s*\((\d+), '\./([^']+)'\),", text, re.MULTILINE)
    return [(int(n), name) for n, name in found if not LEFT_OUT.search(name) and re.search(pattern, name)]


def run_once(directory, side, name, ports):
    """(passed, output); None as output: it took too long."""
    process = subprocess.Popen([sys.executable, "./" + name, *map(str, ports)], cwd=directory / side / "test/broker",
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
        result = process.returncode == 0
    except subprocess.TimeoutExpired:
        output, result = None, False
    try:
        os.killpg(process.pid, signal.SIGKILL)  # a broker that a failed test left
    except ProcessLookupError:
        pass
    process.wait()
    return result, None if output is None else output.decode(errors="replace")


def run_all(directory, side, tests):
    """name -> (passed, output), and the names of those that passed when run again"""
    results, again = {}, set()
    sets = queue.Queue()
    for i in range(WORKERS):
        sets.put(range(20000 + 10 * i, 20010 + 10 * i))

    def one(count, name):
        ports = sets.get()
        try:
            return name, run_once(directory, side, name, ports[:count])
        finally:
            sets.put(ports)

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for name, result in pool.map(lambda t: one(*t), tests):
            results[name] = result
    for count, name in tests:
        for _ in range(TRIES - 1):
            if results[name][0] or side == "without" and results[name][1] is None:
                break
            results[name] = run_once(directory, side, name, range(20000, 20000 + count))
            if results[name][0]:
                again.add(name)
    return results, again


def main():
    directory, plugin, pattern = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    own_network()
    redis_socket = directory / "redis.sock"
    redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(redis_socket), "--unixsocketperm", "777",
                              "--save", "", "--dir", str(directory)], stdout=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        prepare(directory, "without", "", redis_socket)
        prepare(directory, "with", plugin, redis_socket)
        tests = tests_of(directory, pattern)
        without, without_again = run_all(directory, "without", tests)
        usable = [t for t in tests if without[t[1]][0]]
        loaded, loaded_again = run_all(directory, "with", usable)
        keys = subprocess.run(["redis-cli", "-s", str(redis_socket), "DBSIZE"], stdout=subprocess.PIPE, check=True)
    finally:
        redis.terminate()
        redis.wait()
    differ = [name for _, name in usable if not loaded[name][0]]
    for name in differ:
        print("FAILED: with the plugin, not without:", name)
        print((loaded[name][1] or "took too long")[-3000:])
    print("not usable here:", " ".join(name for _, name in tests if not without[name][0]) or "none")
    print("passed when run again, with the plugin only:", " ".join(sorted(loaded_again - without_again)) or "none")
    print("left out: bridges, TLS, dynamic-security (test_neutrality has it), tools, command line and configuration file, websockets")
    failed = len(differ)
    if not pattern and len(usable) < USABLE_MIN:
        print("FAILED: only %d of the tests can be used" % len(usable))
        failed += 1
    if int(keys.stdout) < len(usable) // 4:
        print("FAILED: the plugin was hardly at work: %d keys in Redis" % int(keys.stdout))
        failed += 1
    print("%.0f s" % (time.monotonic() - began))
    print("%d passed, %d failed" % (len(usable) - len(differ), failed))
    return failed > 0


sys.exit(main())
