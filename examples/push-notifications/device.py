"""A device that shows what is pushed to it, once, and says so.

usage: device.py PORT NAME FILE    FILE: ids of what it has shown, so that it knows them after a restart
"""
import json
import sys
import time

import paho.mqtt.client as mqtt

port, name, path = sys.argv[1:]
# paho 2 wants to know which kind of callbacks these are.
version = (mqtt.CallbackAPIVersion.VERSION1,) if hasattr(mqtt, "CallbackAPIVersion") else ()
client = mqtt.Client(*version, client_id=name, protocol=mqtt.MQTTv5)
with open(path, "a+") as file:
	file.seek(0)
	shown = set(file.read().split())


def on_connect(client, userdata, flags, reason, properties):
	client.subscribe(f"push/{name}/#", qos=1)


def on_message(client, userdata, message):
	push = json.loads(message.payload)
	if push["id"] not in shown:
		outcome = "shown"
		if push.get("until", float("inf")) < time.time() * 1000:
			outcome = "too late"
		else:
			print(push["id"], flush=True)
		shown.add(push["id"])
		with open(path, "a") as file:
			print(push["id"], file=file)
		client.publish(f"receipts/{name}", json.dumps({"id": push["id"], "outcome": outcome}), qos=1)


client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", int(port), keepalive=10, clean_start=True)
client.loop_forever()
