# What people put next to Mosquitto: subscribes to everything and adds it to Redis streams, what has gathered in one pipeline.
# usage: python3 sidecar.py BROKER_PORT REDIS_PORT
import queue
import sys
import threading

import paho.mqtt.client as mqtt
import redis

broker_port, redis_port = int(sys.argv[1]), int(sys.argv[2])
store = redis.Redis(port=redis_port)
waiting = queue.SimpleQueue()


def write():
    while True:
        messages = [waiting.get()]
        while not waiting.empty() and len(messages) < 1000:
            messages.append(waiting.get())
        pipeline = store.pipeline(transaction=False)
        for m in messages:
            pipeline.xadd("s:" + m.topic, {"topic": m.topic, "payload": m.payload, "qos": m.qos, "retain": int(m.retain)})
        pipeline.execute()


version = getattr(mqtt, "CallbackAPIVersion", None)
client = mqtt.Client(version.VERSION1, "sidecar-python") if version else mqtt.Client("sidecar-python")
client.on_connect = lambda c, *_: c.subscribe("load/#", 1)
client.on_subscribe = lambda *_: store.set("sidecar-python", "ready")
client.on_message = lambda c, _, m: waiting.put(m)
threading.Thread(target=write, daemon=True).start()
client.connect("127.0.0.1", broker_port)
client.loop_forever()
