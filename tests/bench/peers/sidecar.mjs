// What people put next to Mosquitto: subscribes to everything and adds it to Redis streams.
// usage: node sidecar.mjs BROKER_PORT REDIS_PORT
import Redis from "ioredis";
import mqtt from "mqtt";

const [brokerPort, redisPort] = process.argv.slice(2);
const redis = new Redis({ host: "127.0.0.1", port: Number(redisPort), enableAutoPipelining: true });
const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`, { clientId: "sidecar-node", protocolVersion: 4 });

client.on("connect", () => client.subscribe("load/#", { qos: 1 }, () => redis.set("sidecar-node", "ready")));
client.on("message", (topic, payload, packet) => {
	redis.xadd(`s:${topic}`, "*", "topic", topic, "payload", payload, "qos", packet.qos, "retain", packet.retain ? 1 : 0)
		.catch((error) => console.error(error));
});
