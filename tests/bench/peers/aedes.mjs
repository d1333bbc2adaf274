// A broker that keeps what a device misses in Redis: aedes with its Redis persistence.
// usage: node aedes.mjs PORT REDIS_PORT
import { createServer } from "node:net";
import { Aedes } from "aedes";
import persistence from "aedes-persistence-redis";
import emitter from "mqemitter-redis";

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = { host: "127.0.0.1", port: redisPort };
const aedes = await Aedes.createBroker({
	mq: emitter(redis),
	persistence: persistence({ ...redis, maxSessionDelivery: 10000000 }), // its default keeps 1000
});
createServer({ noDelay: true }, aedes.handle).listen(port, "127.0.0.1");
