"""A worker of the queue: takes a job, does it, acknowledges it. What a worker that died held comes back.

usage: worker.py list|stream PORT NAME [MS]     MS: how long a job takes
       worker.py reap PORT                      puts back what dead workers of the list held
"""
import json
import sys
import time

import redis

HEARTBEAT_MS = 1000  # must be longer than the longest job

# The oldest job comes out first again, and a worker that is alive after all keeps its own.
REAP = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local n = 0
while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do n = n + 1 end
return n
"""


def work(r, name, payload, ms):
	time.sleep(ms / 1000)
	r.rpush("done", f"{payload} {name}")


def list_worker(r, name, ms):
	working = f"jobs:working:{name}"
	r.sadd("jobs:workers", name)
	while True:
		r.set(f"jobs:alive:{name}", 1, px=HEARTBEAT_MS)
		element = r.blmove("jobs", working, HEARTBEAT_MS / 4000, "RIGHT", "LEFT")
		if element is None:
			continue
		work(r, name, json.loads(element)["payload"], ms)
		r.lrem(working, 1, element)


def reap(r):
	for name in r.smembers("jobs:workers"):
		n = r.eval(REAP, 3, f"jobs:alive:{name}", f"jobs:working:{name}", "jobs")
		if n:
			print(f"{n} put back of {name}", flush=True)


def stream_worker(r, name, ms):
	try:
		r.xgroup_create("orders", "workers", id="0", mkstream=True)
	except redis.ResponseError as error:
		if not str(error).startswith("BUSYGROUP"):
			raise
	while True:
		entries = r.xautoclaim("orders", "workers", name, min_idle_time=HEARTBEAT_MS, count=10)[1]
		if entries:
			print(f"{len(entries)} claimed by {name}", flush=True)
		else:
			got = r.xreadgroup("workers", name, {"orders": ">"}, count=1, block=HEARTBEAT_MS // 4)
			entries = got[0][1] if got else []
		for entry, fields in entries:
			work(r, name, fields["payload"], ms)
			r.xack("orders", "workers", entry)


def main():
	what, port, *rest = sys.argv[1:]
	r = redis.Redis(port=int(port), decode_responses=True)
	if what == "reap":
		while True:
			reap(r)
			time.sleep(HEARTBEAT_MS / 4000)
	name, ms = rest[0], float(rest[1]) if len(rest) > 1 else 0
	(list_worker if what == "list" else stream_worker)(r, name, ms)


main()
