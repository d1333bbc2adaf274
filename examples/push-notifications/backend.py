"""A backend that pushes to devices through the stream `pushes`, and learns what became of each push.

usage: backend.py PORT campaign DEVICE...   something now, something later, something for a moment, and a mistake
       backend.py PORT sale DEVICE...       something that is worthless after a second, and something that is not
"""
import json
import sys
import time

import redis


def now_ms():
	return int(time.time() * 1000)


class Backend:
	def __init__(self, port):
		self.redis = redis.Redis(port=port, decode_responses=True)
		newest = self.redis.xrevrange("pushes:results", count=1)
		self.position = newest[0][0] if newest else "0-0"
		self.waiting = set()

	def push(self, device, name, text, until=None, **options):
		push_id = f"python-{name}-{device}"
		payload = {"id": push_id, "text": text}
		if until:
			payload["until"] = until
		self.redis.xadd("pushes", {"topic": f"push/{device}/news", "payload": json.dumps(payload), "id": push_id, **options})
		self.waiting.add(push_id)

	def wait(self):
		"""Prints each push and its outcome."""
		while self.waiting:
			for _, entries in self.redis.xread({"pushes:results": self.position}, block=1000):
				for self.position, result in entries:
					if result["id"] in self.waiting:
						self.waiting.remove(result["id"])
						print(result["id"], result["outcome"], flush=True)


def main():
	port, what, *devices = sys.argv[1:]
	backend = Backend(int(port))
	for device in devices:
		if what == "campaign":
			backend.push(device, "later", "See you!", deliver_at=now_ms() + 4000)
			backend.push(device, "hello", "Welcome!")
			backend.push(device, "moment", "Look out of the window", until=now_ms() + 15000)
		else:
			backend.push(device, "sale", "Only now", expiry_seconds=1)
			backend.push(device, "news", "For whenever you wake up")
	if what == "campaign":
		backend.push("+", "mistake", "a topic to publish to has no wildcards")
	backend.wait()


main()
