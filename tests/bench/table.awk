# From raw numbers (tests/harness/figures.h) the table, in Markdown; with -v plot=1 what tests/bench/plot.gp shows: for each row
# with a target, how many times better than the target. Medians over the rounds; ratios are medians of the rounds' ratios.
BEGIN { FS = "\t" }

{ count[$1, $2]++; value[$1, $2, count[$1, $2]] = $3 }

function median(n,    i, k, t) {
	for (i = 2; i <= n; i++) {
		t = list[i]
		for (k = i - 1; k >= 1 && list[k] > t; k--) list[k + 1] = list[k]
		list[k + 1] = t
	}
	return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

function middle(m, v,    i) {
	for (i = 1; i <= count[m, v]; i++) list[i] = value[m, v, i]
	return median(count[m, v])
}

function ratio(m, v, m2, v2,    i, n) {
	n = count[m, v]
	if (n != count[m2, v2]) return middle(m, v) / middle(m2, v2)
	for (i = 1; i <= n; i++) list[i] = value[m2, v2, i] ? value[m, v, i] / value[m2, v2, i] : 0
	return median(n)
}

function short(x,    a) {
	a = x < 0 ? -x : x
	return sprintf(a >= 100 ? "%.0f" : a >= 10 ? "%.1f" : a >= 0.1 ? "%.2f" : "%.4f", x)
}

# kind: "<" or ">" and the target, or "" for none.
function line(title, ours, theirs, result, target,    limit, better) {
	limit = substr(target, 2) + 0
	better = target == "" ? "" : substr(target, 1, 1) == ">" ? result / limit : result > 0 ? limit / result : 100
	if (plot) {
		sub(/ [0-9].*/, "", theirs)
		if (target != "") print title (theirs ? " / " theirs : "") "\t" (better > 100 ? 100 : better < 0.01 ? 0.01 : better)
		return
	}
	print "| " title " | " ours " | " theirs " | " short(result) " | " \
		(target == "" ? "" : (substr(target, 1, 1) == ">" ? "at least " : "under ") substr(target, 2)) " | " \
		(target == "" ? "" : better >= 1 ? "yes" : "no") " |"
}

function compared(title, m, v, unit, m2, v2, who, target) {
	if (!count[m, v] || !count[m2, v2]) return
	line(title, short(middle(m, v)) unit, who " " short(middle(m2, v2)) unit, ratio(m, v, m2, v2), target)
}

function alone(title, m, v, unit, target) {
	if (!count[m, v]) return
	line(title, short(middle(m, v)) unit, "", middle(m, v), target)
}

END {
	if (!plot) {
		print "| measure | here | against | ratio or figure | target | met |"
		print "|---|---|---|---|---|---|"
	}
	compared("instructions of the broker's thread for a QoS 1 publish", "instructions", "plugin", "", "instructions", "plain", "Mosquitto", "<1.10")
	compared("the same, a plugin that has a second thread and does nothing", "instructions", "thread", "", "instructions", "plain", "Mosquitto", "")
	compared("the same, with empty callbacks", "instructions", "thread-callbacks", "", "instructions", "plain", "Mosquitto", "")
	compared("the same, with the delivery to a device", "groups", "a device", "", "groups", "plain, a device", "Mosquitto", "")
	compared("the same, while there is a group for other topics", "groups", "a device, a group elsewhere", "", "groups", "plain, a device", "Mosquitto", "")
	compared("the same, while another device's session waits", "groups", "a device, another one away", "", "groups", "plain, a device", "Mosquitto", "")
	compared("the same, to one of the two members of a group", "groups", "a group", "", "groups", "plain, a group", "Mosquitto", "")
	compared("QoS 1 publishes, one subscriber", "throughput", "plugin, QoS 1, one subscriber", " / s", "throughput", "plain, QoS 1, one subscriber", "Mosquitto", ">0.90")
	compared("QoS 1 publishes, no subscriber", "throughput", "plugin, QoS 1, no subscriber", " / s", "throughput", "plain, QoS 1, no subscriber", "Mosquitto", ">0.70")
	compared("QoS 0 publishes, one subscriber", "throughput", "plugin, QoS 0, one subscriber", " / s", "throughput", "plain, QoS 0, one subscriber", "Mosquitto", "")
	compared("QoS 0 publishes, no subscriber", "throughput", "plugin, QoS 0, no subscriber", " / s", "throughput", "plain, QoS 0, no subscriber", "Mosquitto", "")
	compared("sustained mirror rate", "mirror", "plugin", " / s", "mirror", "redis-benchmark", "redis-benchmark", ">0.70")
	compared("the same if a mirror cost nothing: Mosquitto alone", "mirror", "Mosquitto alone", " / s", "mirror", "redis-benchmark", "redis-benchmark", "")
	compared("sustained mirror rate, QoS 0", "mirror", "plugin, QoS 0", " / s", "mirror", "redis-benchmark", "redis-benchmark", "")
	compared("the mirror alone: a full journal into Redis", "mirror", "plugin, a full journal", " / s", "mirror", "redis-benchmark", "redis-benchmark", "")
	compared("CPU seconds a million mirrored messages", "sidecar cpu", "plugin", "", "sidecar cpu", "Node", "Node sidecar", "<0.4")
	compared("CPU seconds a million mirrored messages", "sidecar cpu", "plugin", "", "sidecar cpu", "Python", "Python sidecar", "<0.4")
	alone("publish to Redis at half of that rate, p50", "publish to Redis", "p50", " ms", "")
	alone("publish to Redis at half of that rate, p99", "publish to Redis", "p99", " ms", "<5")
	alone("the same entries straight into Redis at that pace, p99", "straight to Redis", "p99", " ms", "")
	alone("publish to Redis while it rewrites its append-only file, p99", "publish to Redis, rewriting", "p99", " ms", "")
	alone("MESSAGE callback, p99.9, Redis up", "callback", "up, p99.9", " us", "<50")
	alone("MESSAGE callback, p99.9, Redis stopped", "callback", "stopped, p99.9", " us", "<50")
	alone("MESSAGE callback, p99.9, Redis dead", "callback", "dead, p99.9", " us", "<50")
	compared("first redelivered message, backlog of 10,000", "first of 10000", "plugin", " ms", "first of 10000", "Mosquitto", "Mosquitto's session", "")
	alone("first redelivered message, backlog of 10,000", "first of 10000", "plugin", " ms", "<10")
	split("10000 100000 1000000", sizes, " ")
	for (i = 1; i <= 3; i++) {
		compared("backlog of " sizes[i], "backlog " sizes[i], "plugin", " / s", "backlog " sizes[i], "Mosquitto", "Mosquitto's queue", ">0.25")
		compared("backlog of " sizes[i], "backlog " sizes[i], "plugin", " / s", "backlog " sizes[i], "aedes", "aedes with Redis", ">50")
		compared("backlog of " sizes[i], "backlog " sizes[i], "plugin", " / s", "backlog " sizes[i], "generated", "generated", ">0.7")
	}
	compared("broker memory, 1000000 messages waiting", "broker memory 1000000", "plugin", " bytes", "broker memory 1000000", "Mosquitto", "Mosquitto's queue", "<0.01")
	compared("reconnect with ten missed, most topics", "reconnect", "most topics, ten missed", " ms", "reconnect", "100 topics, ten missed", "100 topics", "")
	compared("reconnect with nothing missed, most topics", "reconnect", "most topics, none missed", " ms", "reconnect", "100 topics, none missed", "100 topics", "")
	alone("storm, messages", "storm", "rate", " / s", "")
	alone("storm, the bridge's memory", "storm", "bridge", " MiB", "<256")
	compared("storm, messages to Mosquitto's own queues", "storm", "rate", " / s", "storm", "rate, Mosquitto's queues", "the same backlog in Mosquitto's memory", "")
	compared("storm, p99 of others' live messages while the devices connect", "storm", "others p99, storm", " us", "storm", "others p99, plain arrival", "the same devices arriving at Mosquitto, nothing missed", "<2")
	compared("storm, the same", "storm", "others p99, storm", " us", "storm", "others p99, Mosquitto's queues", "the same backlog in Mosquitto's memory", "")
	compared("storm, p50 of others' live messages when all are connected", "storm", "others p50, storm, all connected", " us", "storm", "others p50, calm", "calm", "")
	compared("storm, p99 of the same", "storm", "others p99, storm, all connected", " us", "storm", "others p99, calm", "calm", "")
	compared("storm, p50 when all are connected", "storm", "others p50, storm, all connected", " us", "storm", "others p50, as many live", "as many messages live at Mosquitto", "<2")
	compared("storm, p99 of the same", "storm", "others p99, storm, all connected", " us", "storm", "others p99, as many live", "as many messages live at Mosquitto", "")
	compared("mirror, three masters of a cluster", "cluster", "three masters", " / s", "cluster", "one master", "one master", "")
	compared("the same, each behind a slow connection", "cluster, slow connections", "three masters", " / s", "cluster, slow connections", "one master", "one master", ">1.5")
	compared("outbox to device, stream", "outbox", "stream", " / s", "outbox", "plain libmosquitto", "libmosquitto", ">0.5")
	compared("outbox to device, list", "outbox", "list", " / s", "outbox", "plain libmosquitto", "libmosquitto", ">0.5")
	compared("Redis memory of a message of 256 bytes", "redis memory", "a message", " bytes", "redis memory", "its payload", "its payload", "<1.4")
}
