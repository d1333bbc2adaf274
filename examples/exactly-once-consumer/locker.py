"""One of several workers that talk to the same device, one at a time, under a lock in Redis.

usage: locker.py PORT NAME

A conversation is two lines in the device's log, "begin" and "end"; nobody else's may stand between them.
"""
import random
import sys
import time
import uuid

import redis

LOCK_MS = 400
LOCK, LOG = "lock:device:7", "device:7:log"

# Only the one that holds the lock may let it go.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

# A worker that slept past its lock's end does not know that it lost it: what is written checks it in the same step.
WRITE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('RPUSH', KEYS[2], ARGV[2])"


def main():
	port, name = sys.argv[1:]
	r = redis.Redis(port=int(port), decode_responses=True)
	release, write = r.register_script(RELEASE), r.register_script(WRITE)
	while True:
		token = f"{name}-{uuid.uuid4().hex}"
		if not r.set(LOCK, token, nx=True, px=LOCK_MS):
			time.sleep(random.uniform(0.001, 0.01))
			continue
		for step in "begin", "end":
			if not write(keys=[LOCK, LOG], args=[token, f"{name} {step} {token}"]):
				r.incr("refused")
				break
			time.sleep(random.uniform(0, 0.01))
		release(keys=[LOCK], args=[token])
		time.sleep(random.uniform(0, 0.005))


main()
