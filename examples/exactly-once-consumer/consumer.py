"""Adds up what meters report, each reading once, although this program may be killed at any moment.

usage: consumer.py multi PORT        one consumer; MULTI/EXEC moves sums and position together
       consumer.py script PORT NAME  one of several in a consumer group; a Lua script acknowledges and adds in one step
"""
import random
import sys
import time

import redis

# XACK says 1 once for each entry, whoever asks and however often.
APPLY = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], ARGV[3], ARGV[4])
return 1
"""


def think():
	"""Work takes time, and a program may be killed in it."""
	time.sleep(random.uniform(0, 0.002))


def meter_of(fields):
	return fields["topic"].split("/")[1]


def apply_multi(r):
	with r.pipeline(transaction=True) as p:
		p.watch("sums:multi:position")
		position = p.get("sums:multi:position") or "0-0"
		got = r.xread({"readings": position}, count=20, block=200)
		if not got:
			return
		entries = got[0][1]
		p.multi()
		for _, fields in entries:
			think()
			p.hincrby("sums:multi", meter_of(fields), int(fields["payload"]))
		p.set("sums:multi:position", entries[-1][0])
		try:
			p.execute()
		except redis.WatchError:
			pass  # another consumer was faster: nothing of this was applied


def run_script(r, name):
	try:
		r.xgroup_create("readings", "sums", id="0", mkstream=True)
	except redis.ResponseError as error:
		if not str(error).startswith("BUSYGROUP"):
			raise
	apply = r.register_script(APPLY)
	while True:
		entries = r.xautoclaim("readings", "sums", name, min_idle_time=300, count=20)[1]
		if not entries:
			got = r.xreadgroup("sums", name, {"readings": ">"}, count=20, block=200)
			entries = got[0][1] if got else []
		for entry, fields in entries:
			think()
			if not apply(keys=["readings", "sums:script"], args=["sums", entry, meter_of(fields), fields["payload"]]):
				print(f"{entry} was applied by another", flush=True)


def main():
	what, port, *rest = sys.argv[1:]
	r = redis.Redis(port=int(port), decode_responses=True)
	if what == "script":
		run_script(r, rest[0])
	while True:
		apply_multi(r)


main()
