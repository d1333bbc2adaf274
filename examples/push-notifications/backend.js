"use strict";
// The same in Node, through the list `pushes:node`; its elements are JSON.
// usage: backend.js PORT campaign|sale DEVICE...
const { createClient } = require("redis");

const [port, what, ...devices] = process.argv.slice(2);
const redis = createClient({ url: `redis://127.0.0.1:${port}` });
const waiting = new Set();

async function push(device, name, text, { until, ...options } = {}) {
	const id = `node-${name}-${device}`;
	// created_at: an element of a list does not know its age, a stream's entry does by its id.
	const push = { topic: `push/${device}/news`, payload: JSON.stringify({ id, text, until }), id, created_at: Date.now(), ...options };
	await redis.lPush("pushes:node", JSON.stringify(push));
	waiting.add(id);
}

// Prints each push and its outcome.
async function wait(position) {
	while (waiting.size > 0) {
		const got = await redis.xRead({ key: "pushes:results", id: position }, { BLOCK: 1000 });
		for (const { id, message } of got?.[0].messages ?? []) {
			position = id;
			if (waiting.delete(message.id)) console.log(message.id, message.outcome);
		}
	}
}

async function main() {
	await redis.connect();
	const newest = await redis.xRevRange("pushes:results", "+", "-", { COUNT: 1 });
	for (const device of devices) {
		if (what === "campaign") {
			await push(device, "later", "See you!", { deliver_at: Date.now() + 4000 });
			await push(device, "hello", "Welcome!");
			await push(device, "moment", "Look out of the window", { until: Date.now() + 15000 });
		} else {
			await push(device, "sale", "Only now", { expiry_seconds: 1 });
			await push(device, "news", "For whenever you wake up");
		}
	}
	if (what === "campaign") await push("+", "mistake", "a topic to publish to has no wildcards");
	await wait(newest[0]?.id ?? "0-0");
	await redis.quit();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
