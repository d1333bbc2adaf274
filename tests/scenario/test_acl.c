/*
 * Loading the plugin changes no access decision: what a client may publish, subscribe to and receive is compared with a
 * broker without it, with no ACL file, with one, and with the dynamic-security plugin, before and after a reload.
 */
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

static const char *const users[] = {NULL, "anna", "bert", "boss"};
static const char *const topics[] = {"public/a", "private/a", "own/anna/x", "own/bert/x", "read/only", "write/only",
	"denied/here", "client/asker/x", "$CONTROL/none/v1", "deep/er/and/deeper"};
static const char *const filters[] = {"public/a", "#", "own/+/x", "private/#", "write/only", "denied/here",
	"$SYS/broker/uptime", "client/asker/+", "$share/g/public/a", "deep/#"};

enum { USERS = sizeof(users) / sizeof(users[0]), TOPICS = sizeof(topics) / sizeof(topics[0]),
	FILTERS = sizeof(filters) / sizeof(filters[0]) };

struct decisions {
	int connect[USERS];
	int publish[USERS][TOPICS];
	int subscribe[USERS][FILTERS];
	int receive[USERS][TOPICS];
};

static void leave(struct guest *p)
{
	if (guest_connected(p)) guest_drop(p); /* a broker that refuses may have closed first */
}

/* A connection for each question, so that no answer depends on the one before. */
static void ask_publish(struct guest *p, int answers[TOPICS])
{
	for (size_t t = 0; t < TOPICS; t++) {
		answers[t] = guest_connect_code(p) == 0 ? guest_publish_code(p, topics[t], "x", 1) : -2;
		leave(p);
	}
}

static void ask_subscribe(struct guest *p, int answers[FILTERS])
{
	for (size_t f = 0; f < FILTERS; f++) {
		answers[f] = guest_connect_code(p) == 0 ? guest_subscribe_code(p, filters[f], 1) : -2;
		leave(p);
	}
}

/* Which of the topics reach a client that asked for each of them? The boss publishes; the topic of the last message can
 * be read by everyone who can subscribe at all. */
static void ask_receive(struct guest *p, struct guest *boss, int answers[TOPICS])
{
	guest_clear(p);
	if (guest_connect_code(p) != 0) return;
	for (size_t t = 0; t < TOPICS; t++)
		if (topics[t][0] != '$') (void)guest_subscribe_code(p, topics[t], 1);
	bool ends = guest_subscribe_code(p, "public/end", 1) < 128;
	for (size_t t = 0; t < TOPICS; t++)
		if (topics[t][0] != '$') (void)guest_publish_code(boss, topics[t], topics[t], 1);
	guest_publish(boss, "public/end", "end", 1);
	if (ends) {
		uint64_t limit = now_ms() + WAIT_MS;
		for (size_t n = 1;; n++) {
			scene_require(guest_wait_quiet(p, n, WAIT_MS) && now_ms() < limit, "the last message did not arrive");
			if (strcmp(guest_message(p, n - 1).topic, "public/end") == 0) break;
		}
	}
	for (size_t i = 0; i < guest_count(p); i++)
		for (size_t t = 0; t < TOPICS; t++)
			if (strcmp(guest_message(p, i).topic, topics[t]) == 0) answers[t]++;
	leave(p);
}

/* One of the two brokers, and who asks it. */
struct party {
	struct world *world;
	struct guest *boss;
	struct guest *askers[USERS];
};

static struct party party_of(struct world *w)
{
	struct party y = {.world = w};

	y.boss = guest_new(w, "boss", &(struct guest_options){.v5 = true, .user = "boss", .password = "secret"});
	for (size_t u = 0; u < USERS; u++)
		y.askers[u] = guest_new(w, "asker", &(struct guest_options){.v5 = true, .user = users[u],
			.password = users[u] ? "secret" : NULL});
	return y;
}

static void ask(struct party *y, struct decisions *out)
{
	memset(out, 0, sizeof(*out));
	guest_connect(y->boss);
	for (size_t u = 0; u < USERS; u++) {
		out->connect[u] = guest_connect_code(y->askers[u]);
		leave(y->askers[u]);
		ask_publish(y->askers[u], out->publish[u]);
		ask_subscribe(y->askers[u], out->subscribe[u]);
		ask_receive(y->askers[u], y->boss, out->receive[u]);
	}
	guest_disconnect(y->boss);
}

static void same(const struct decisions *plain, const struct decisions *ours, const char *when)
{
	for (size_t u = 0; u < USERS; u++) {
		const char *user = users[u] ? users[u] : "anonymous";
		scene_require(plain->connect[u] == ours->connect[u], "%s: connect of %s: %d, not %d", when, user,
			ours->connect[u], plain->connect[u]);
		for (size_t t = 0; t < TOPICS; t++) {
			scene_require(plain->publish[u][t] == ours->publish[u][t], "%s: publish to %s by %s: %d, not %d", when,
				topics[t], user, ours->publish[u][t], plain->publish[u][t]);
			scene_require(plain->receive[u][t] == ours->receive[u][t], "%s: %s to %s: %d times, not %d", when,
				topics[t], user, ours->receive[u][t], plain->receive[u][t]);
		}
		for (size_t f = 0; f < FILTERS; f++)
			scene_require(plain->subscribe[u][f] == ours->subscribe[u][f], "%s: subscribe to %s by %s: %d, not %d",
				when, filters[f], user, ours->subscribe[u][f], plain->subscribe[u][f]);
	}
}

/* Some of the answers must be refusals, or nothing was compared. */
static void judged(const struct decisions *plain)
{
	int refusals = 0;

	for (size_t u = 0; u < USERS; u++)
		for (size_t t = 0; t < TOPICS; t++) refusals += plain->publish[u][t] >= 128;
	scene_require(refusals >= 5, "the broker without the plugin refuses only %d publishes", refusals);
}

/* `change` makes the configuration another one before the reload. */
static void compare(struct scene *scene, const char *options, bool refuses, void (*change)(struct scene *scene))
{
	static struct decisions plain, ours;
	struct world w, bare = {.scene = scene};

	bare.broker = broker_new(scene, "plain", NULL, options);
	world_start_with(&w, scene, "mirror # stream s:%t\n", options, WORLD_NO_START);
	server_start(w.redis);
	w.db = store_open(w.redis);
	server_start(w.broker);
	server_start(bare.broker);
	struct party without = party_of(&bare), with = party_of(&w);
	ask(&without, &plain);
	ask(&with, &ours);
	same(&plain, &ours, "at start");
	if (refuses) judged(&plain);
	for (int round = 0; round < 2; round++) {
		size_t from = server_log_size(w.broker);
		if (round == 1 && change) change(scene);
		server_signal(bare.broker, SIGHUP);
		server_signal(w.broker, SIGHUP);
		server_log_wait(w.broker, from, "settings: read again", WAIT_MS);
		guest_join(&bare, scene_text(scene, "after %d", round), &(struct guest_options){.user = "boss",
			.password = "secret"}); /* served behind the signal */
		ask(&without, &plain);
		ask(&with, &ours);
		same(&plain, &ours, round == 0 ? "after a reload" : "after a reload with changes");
	}
	scene_end(scene);
}

static void test_no_acl(void **state)
{
	compare(*state, "allow_anonymous true\n", false, NULL);
}

#define ACL_COMMON "topic read public/#\ntopic write write/only\n" \
	"user anna\ntopic readwrite own/anna/#\ntopic read read/only\ntopic readwrite public/#\ntopic deny denied/#\n" \
	"topic write denied/here\n" \
	"user boss\ntopic readwrite #\ntopic readwrite $CONTROL/#\ntopic read $SYS/#\n" \
	"pattern readwrite own/%u/#\npattern read client/%c/#\npattern read public/end\n"

static void acl_change(struct scene *scene)
{
	(void)scene_write(scene, "acl", "topic read private/#\nuser bert\ntopic readwrite deep/#\n"
		"user boss\ntopic readwrite #\n"
		"pattern read public/end\n");
}

static void test_acl_file(void **state)
{
	struct scene *scene = *state;
	const char *path = scene_write(scene, "acl", ACL_COMMON);

	compare(scene, scene_text(scene, "allow_anonymous true\nacl_file %s\n", path), true, acl_change);
}

/* Redelivery grants are there, and every device waits for a bridge that never comes: decisions stay the same. */
static void test_acl_with_grants(void **state)
{
	static struct decisions plain, ours;
	struct scene *scene = *state;
	const char *path = scene_write(scene, "acl", ACL_COMMON);
	const char *options = scene_text(scene, "allow_anonymous true\nacl_file %s\n", path);
	struct world w, bare = {.scene = scene};

	bare.broker = broker_new(scene, "plain", NULL, options);
	server_start(bare.broker);
	world_start_with(&w, scene, scene_text(scene, "mirror # stream s:%%t\nredeliver # overlap=0\nacl_file %s\n", path),
		scene_text(scene, "%s", options), 0);
	struct party without = party_of(&bare), with = party_of(&w);
	for (size_t u = 0; u < USERS; u++) {
		ask_publish(without.askers[u], plain.publish[u]);
		ask_subscribe(without.askers[u], plain.subscribe[u]);
		ask_publish(with.askers[u], ours.publish[u]);
		ask_subscribe(with.askers[u], ours.subscribe[u]);
	}
	same(&plain, &ours, "with grants");
	judged(&plain);
	scene_end(scene);
}

static const char *dynamic_security(struct scene *scene)
{
	static const char *const places[] = {"/usr/lib/*/mosquitto_dynamic_security.so",
		"/usr/lib/*/mosquitto/mosquitto_dynamic_security.so", "/usr/lib/mosquitto_dynamic_security.so",
		"/usr/local/lib/mosquitto_dynamic_security.so"};
	const char *path = NULL;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !path; i++) {
		glob_t found;
		if (glob(places[i], 0, NULL, &found) == 0) path = scene_text(scene, "%s", found.gl_pathv[0]);
		globfree(&found);
	}
	return path;
}

/* Roles for anonymous clients only: what is not listed is denied by deferring, which is what a plugin can spoil. */
static const char dynamic_settings[] =
	"{\"defaultACLAccess\":{\"publishClientSend\":false,\"publishClientReceive\":true,\"subscribe\":false,"
	"\"unsubscribe\":true},\"clients\":[],\"groups\":[{\"groupname\":\"anyone\",\"roles\":[{\"rolename\":\"some\"}],"
	"\"clients\":[]}],\"roles\":[{\"rolename\":\"some\",\"acls\":["
	"{\"acltype\":\"publishClientSend\",\"topic\":\"public/#\",\"priority\":0,\"allow\":true},"
	"{\"acltype\":\"publishClientSend\",\"topic\":\"deep/#\",\"priority\":0,\"allow\":true},"
	"{\"acltype\":\"publishClientSend\",\"topic\":\"own/+/x\",\"priority\":0,\"allow\":true},"
	"{\"acltype\":\"publishClientSend\",\"topic\":\"own/bert/x\",\"priority\":5,\"allow\":false},"
	"{\"acltype\":\"publishClientReceive\",\"topic\":\"deep/#\",\"priority\":0,\"allow\":false},"
	"{\"acltype\":\"subscribePattern\",\"topic\":\"public/#\",\"priority\":0,\"allow\":true},"
	"{\"acltype\":\"subscribePattern\",\"topic\":\"deep/#\",\"priority\":0,\"allow\":true},"
	"{\"acltype\":\"subscribeLiteral\",\"topic\":\"own/+/x\",\"priority\":0,\"allow\":true}"
	"]}],\"anonymousGroup\":\"anyone\"}";

static void test_dynamic_security(void **state)
{
	static struct decisions plain, ours;
	struct scene *scene = *state;
	const char *plugin = dynamic_security(scene);
	struct world w, bare = {.scene = scene};

	scene_require(plugin, "mosquitto_dynamic_security.so is not installed");
	/* Each broker writes its own file. */
	const char *first = scene_write(scene, "dynsec-1.json", dynamic_settings);
	const char *second = scene_write(scene, "dynsec-2.json", dynamic_settings);
	bare.broker = broker_new(scene, "plain", NULL,
		scene_text(scene, "allow_anonymous true\nplugin %s\nplugin_opt_config_file %s\n", plugin, first));
	server_start(bare.broker);
	world_start_with(&w, scene, "mirror # stream s:%t\nredeliver # overlap=0\n",
		scene_text(scene, "allow_anonymous true\nplugin %s\nplugin_opt_config_file %s\n", plugin, second), 0);
	struct party without = party_of(&bare), with = party_of(&w);
	for (int round = 0; round < 2; round++) {
		ask_publish(without.askers[0], plain.publish[0]);
		ask_subscribe(without.askers[0], plain.subscribe[0]);
		ask_publish(with.askers[0], ours.publish[0]);
		ask_subscribe(with.askers[0], ours.subscribe[0]);
		same(&plain, &ours, round ? "after a reload" : "at start");
		scene_require(plain.publish[0][1] >= 128 && plain.publish[0][0] < 128, "nothing was decided: %d %d",
			plain.publish[0][0], plain.publish[0][1]);
		size_t from = server_log_size(w.broker);
		server_signal(bare.broker, SIGHUP);
		server_signal(w.broker, SIGHUP);
		server_log_wait(w.broker, from, "settings: read again", WAIT_MS);
	}
	/* Nobody became an administrator. */
	struct guest *p = guest_join(&w, "attacker", &(struct guest_options){.v5 = true});
	assert_true(guest_publish_code(p, "$CONTROL/dynamic-security/v1",
		"{\"commands\":[{\"command\":\"createClient\",\"username\":\"evil\",\"password\":\"x\"}]}", 1) != 0);
	assert_null(strstr(scene_read(scene, second, NULL), "evil"));
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_no_acl),
		scene_test(test_acl_file),
		scene_test(test_acl_with_grants),
		scene_test(test_dynamic_security),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
