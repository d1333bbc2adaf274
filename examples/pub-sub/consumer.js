"use strict";
// One of several consumers of a group: each entry goes to one of them. Claims what a dead one left.
// usage: consumer.js PORT GROUP NAME [MS]    MS: how long an entry takes
const { createClient } = require("redis");

const IDLE_MS = 1000;   // longer than the longest entry takes
const [port, group, name, ms = "0"] = process.argv.slice(2);
const stream = "readings";

// XACK says 1 once for each entry, so the effect comes once, although a consumer that only stood still went on with an
// entry that another had claimed.
const once = `
if redis.call("XACK", KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
return redis.call("RPUSH", KEYS[2], ARGV[3])
`;

async function main() {
	const redis = createClient({ url: `redis://127.0.0.1:${port}` });
	redis.on("error", (error) => console.error(error.message));
	await redis.connect();
	await redis.xGroupCreate(stream, group, "0", { MKSTREAM: true }).catch((error) => {
		if (!error.message.startsWith("BUSYGROUP")) throw error;
	});
	for (;;) {
		const claimed = await redis.xAutoClaim(stream, group, name, IDLE_MS, "0-0", { COUNT: 10 });
		let entries = claimed.messages.filter((entry) => entry !== null);
		if (entries.length > 0) {
			console.log(`${name} claimed ${entries.length}`);
		} else {
			const got = await redis.xReadGroup(group, name,
				{ key: stream, id: ">" }, { COUNT: 5, BLOCK: 250 });
			entries = got ? got[0].messages : [];
		}
		for (const { id, message } of entries) {
			if (ms !== "0") await new Promise((done) => setTimeout(done, Number(ms)));
			await redis.eval(once, {
				keys: [stream, `seen:${group}`],
				arguments: [group, id, `${message.topic} ${message.payload} ${name}`],
			});
		}
	}
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
