"""Indexes what is said: for each word a sorted set of messages, the newest last.

usage: indexer.py PORT              goes on where it stopped
       indexer.py PORT search WORD  prints room, who, what; the newest first
"""
import json
import re
import sys

import redis


def words(text):
	return set(re.findall(r"\w+", text.lower()))


def index(r):
	while True:
		# A room begins when somebody says something in it.
		rooms = list(r.scan_iter(match="chat:*", _type="stream"))
		positions = r.hgetall("words:positions")
		got = r.xread({room: positions.get(room, "0-0") for room in rooms}, count=100, block=200) if rooms else []
		for room, entries in got:
			with r.pipeline(transaction=True) as p:
				for entry, fields in entries:
					try:
						text = str(json.loads(fields["payload"])["text"])
					except (ValueError, KeyError, TypeError):
						continue  # not a chat message
					for word in words(text):
						p.zadd(f"words:{word}", {f"{room} {entry}": int(entry.split("-")[0])})
				p.hset("words:positions", room, entries[-1][0])
				p.execute()


def search(r, word):
	for member in r.zrevrange(f"words:{word.lower()}", 0, 19):
		room, entry = member.rsplit(" ", 1)
		for _, fields in r.xrange(room, entry, entry):
			said = json.loads(fields["payload"])
			print(f"{room.removeprefix('chat:')} {said['from']}: {said['text']}")


def main():
	r = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
	if sys.argv[2:3] == ["search"]:
		search(r, sys.argv[3])
	else:
		index(r)


main()
