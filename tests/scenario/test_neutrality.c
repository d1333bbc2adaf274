/*
 * Loading the plugin changes no decision of the broker. The same questions (log in, publish, subscribe, receive, retained
 * messages, unsubscribe, last wills) are put to a broker without and to one with the plugin, for each way of deciding access,
 * before and after SIGHUP, with rules and grants that cover the topics and with ones that do not; every answer must be the
 * same. The plugin stands first, where it may stand last too it is tried, and where it may not the broker does not start.
 * (test_acl.c asks more of ACL files.)
 */
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

/* Which login; the last one's password is wrong. */
static const struct login {
	const char *name, *user, *password;
} logins[] = {{"anonymous", NULL, NULL}, {"anna", "anna", "secret"}, {"nobody", "nobody", "secret"},
	{"anna, wrong password", "anna", "wrong"}};
static const char *const topics[] = {"public/a", "private/a", "own/anna/x", "own/bert/x", "denied/a", "undecided/a"};
static const char *const filters[] = {"public/#", "#", "own/+/x", "private/a", "$share/g/public/a", "undecided/#"};

enum { LOGINS = 4, TOPICS = 6, FILTERS = 6, WILLS = 3 };

struct answers {
	int connect[LOGINS], publish[LOGINS][TOPICS], subscribe[LOGINS][FILTERS];
	int retained[LOGINS][TOPICS], live[LOGINS][TOPICS], unsubscribed[LOGINS][TOPICS], will[LOGINS][WILLS];
};

/* One of the two brokers and who asks it. */
struct side {
	struct scene *scene;
	uint16_t port;
	struct guest *boss, *watcher, *askers[LOGINS], *wills[LOGINS][WILLS];
	bool watches;
};

static struct guest *guest_of(struct side *y, const char *id, const struct login *l, const char *will)
{
	struct guest_options o = {.v5 = true, .user = l->user, .password = l->password, .will_topic = will, .will_payload = "will",
		.will_qos = 1};

	return guest_new_at(y->scene, y->port, id, &o);
}

static const struct login boss_login = {"boss", "boss", "secret"};

static struct side side_of(struct scene *s, uint16_t port)
{
	struct side y = {.scene = s, .port = port};

	y.boss = guest_of(&y, "boss", &boss_login, NULL);
	y.watcher = guest_of(&y, "watcher", &boss_login, NULL);
	for (int l = 0; l < LOGINS; l++) {
		y.askers[l] = guest_of(&y, scene_text(s, "asker %d", l), &logins[l], NULL);
		for (int t = 0; t < WILLS; t++)
			y.wills[l][t] = guest_of(&y, scene_text(s, "will %d %d", l, t), &logins[l], topics[t]);
	}
	return y;
}

static void leave(struct guest *p)
{
	if (guest_connected(p)) guest_drop(p); /* a broker that refuses may have closed first */
}

/* Everything that the boss publishes before is here, or will not come. */
static bool ended(struct side *y, struct guest *p)
{
	static unsigned ends;
	char text[32];
	uint64_t limit = now_ms() + WAIT_MS;

	(void)snprintf(text, sizeof(text), "end %u", ends++);
	guest_publish(y->boss, "public/end", text, 1);
	for (size_t n = 1; now_ms() < limit; n++) {
		if (!guest_wait_quiet(p, n, WAIT_MS)) return false;
		if (strcmp(guest_message(p, n - 1).payload, text) == 0) return true;
	}
	return false;
}

static void count(struct guest *p, const char *text, int answers[TOPICS])
{
	for (size_t i = 0; i < guest_count(p); i++)
		for (int t = 0; t < TOPICS; t++) {
			struct received r = guest_message(p, i);
			if (strcmp(r.topic, topics[t]) == 0 && strcmp(r.payload, text) == 0) answers[t] += r.retain ? 1000 : 1;
		}
	guest_clear(p);
}

static void boss_says(struct side *y, const char *text, bool retain)
{
	for (int t = 0; t < TOPICS; t++)
		guest_publish_bytes(y->boss, topics[t], text, strlen(text), 1, retain, NULL);
}

/* A client never seen before, so that nothing is owed to it. */
static void ask_deliveries(struct side *y, int login, struct answers *a)
{
	static unsigned fresh;
	struct guest *p = guest_of(y, scene_text(y->scene, "fresh %u", fresh++), &logins[login], NULL);

	if (guest_connect_code(p) != 0) return;
	boss_says(y, "kept", true);
	if (guest_subscribe_code(p, "public/end", 1) >= 128) {
		leave(p);
		return;
	}
	for (int t = 0; t < TOPICS; t++) (void)guest_subscribe_code(p, topics[t], 1);
	scene_require(ended(y, p), "%s: no end behind the retained messages", logins[login].name);
	count(p, "kept", a->retained[login]);
	boss_says(y, "live", false);
	scene_require(ended(y, p), "%s: no end behind the live messages", logins[login].name);
	count(p, "live", a->live[login]);
	for (int t = 0; t < TOPICS; t += 2) guest_unsubscribe(p, topics[t]);
	boss_says(y, "later", false);
	scene_require(ended(y, p), "%s: no end behind the unsubscribed ones", logins[login].name);
	count(p, "later", a->unsubscribed[login]);
	leave(p);
}

static void ask_wills(struct side *y, int login, struct answers *a)
{
	for (int t = 0; t < WILLS; t++) {
		int seen[TOPICS] = {0};

		if (guest_connect_code(y->wills[login][t]) != 0) continue;
		guest_drop(y->wills[login][t]);
		/* Two answers later the broker has seen the end of that connection. */
		guest_publish(y->boss, "public/none", "1", 1);
		guest_publish(y->boss, "public/none", "2", 1);
		scene_require(ended(y, y->watcher), "no end behind a will");
		count(y->watcher, "will", seen);
		a->will[login][t] = seen[t];
	}
}

static void ask(struct side *y, struct answers *a)
{
	memset(a, 0, sizeof(*a));
	if (!guest_connected(y->boss)) guest_connect(y->boss);
	if (!y->watches) {
		guest_connect(y->watcher);
		guest_subscribe(y->watcher, "#", 1);
		y->watches = true;
	}
	for (int l = 0; l < LOGINS; l++) {
		struct guest *p = y->askers[l];

		a->connect[l] = guest_connect_code(p);
		leave(p);
		for (int t = 0; t < TOPICS; t++) {
			a->publish[l][t] = guest_connect_code(p) == 0 ? guest_publish_code(p, topics[t], "x", 1) : -2;
			leave(p);
		}
		for (int f = 0; f < FILTERS; f++) {
			a->subscribe[l][f] = guest_connect_code(p) == 0 ? guest_subscribe_code(p, filters[f], 1) : -2;
			leave(p);
		}
		ask_deliveries(y, l, a);
		ask_wills(y, l, a);
	}
}

static void same_row(const char *when, const char *what, const char *login, const char *const *names, const int *plain,
	const int *ours, int count_of)
{
	for (int i = 0; i < count_of; i++)
		scene_require(plain[i] == ours[i], "%s: %s, %s %s: %d with the plugin, %d without", when, login, what, names[i],
			ours[i], plain[i]);
}

static void same(const struct answers *plain, const struct answers *ours, const char *when)
{
	for (int l = 0; l < LOGINS; l++) {
		const char *login = logins[l].name;

		scene_require(plain->connect[l] == ours->connect[l], "%s: %s, connect: %d with the plugin, %d without", when, login,
			ours->connect[l], plain->connect[l]);
		same_row(when, "publish", login, topics, plain->publish[l], ours->publish[l], TOPICS);
		same_row(when, "subscribe", login, filters, plain->subscribe[l], ours->subscribe[l], FILTERS);
		same_row(when, "retained", login, topics, plain->retained[l], ours->retained[l], TOPICS);
		same_row(when, "live", login, topics, plain->live[l], ours->live[l], TOPICS);
		same_row(when, "unsubscribed", login, topics, plain->unsubscribed[l], ours->unsubscribed[l], TOPICS);
		same_row(when, "will", login, topics, plain->will[l], ours->will[l], WILLS);
	}
}

/* Something was refused and something was not, or nothing was compared. */
static void judged(const struct answers *a, bool refuses)
{
	int yes = 0, no = 0;

	for (int l = 0; l < LOGINS; l++)
		for (int t = 0; t < TOPICS; t++) {
			yes += a->live[l][t] + a->will[l][t % WILLS];
			no += a->publish[l][t] >= 128 || a->publish[l][t] == -2;
		}
	scene_require(yes >= 4 && (no >= 4) == refuses, "%d allowed, %d refused", yes, no);
}

/* --- ways of deciding ------------------------------------------------------------------------------------------- */

enum place { FIRST, LAST, IN_LISTENER };

struct way {
	const char *(*options)(struct scene *s, const char *side); /* lines of mosquitto.conf */
	enum place place;
	bool refuses;        /* somebody is refused something */
	const char *settings;
};

static const char *password_file(struct scene *s)
{
	const char *path = scene_path(s, "passwords");
	const char *const create[] = {"mosquitto_passwd", "-c", "-b", path, "anna", "secret", NULL};
	const char *const more[] = {"mosquitto_passwd", "-b", path, "boss", "secret", NULL};

	if (scene_read(s, path, NULL)) return path;
	scene_require(program_run(s, create, WAIT_MS, NULL) == 0 && program_run(s, more, WAIT_MS, NULL) == 0,
		"mosquitto_passwd failed");
	return path;
}

static const char *no_control(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\n");
}

static const char *passwords(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous false\npassword_file %s\n", password_file(s));
}

static const char acl[] = "topic read public/#\ntopic write public/a\ntopic readwrite $CONTROL/#\n"
	"user anna\ntopic readwrite own/anna/#\ntopic readwrite public/#\ntopic deny denied/#\ntopic read private/#\n"
	"user boss\ntopic readwrite #\ntopic readwrite $CONTROL/#\n"
	"pattern readwrite own/%u/#\npattern read public/end\n";

static const char *access_lists(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\npassword_file %s\nacl_file %s\n", password_file(s), scene_write(s, "acl", acl));
}

static const char *decider(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\nplugin " NEIGHBOUR_FILE("decider") "\n");
}

static const char *old_decider(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\nauth_plugin " NEIGHBOUR_FILE("old_decider") "\n");
}

static const char *decider_v3(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\nauth_plugin " NEIGHBOUR_FILE("decider_v3") "\n");
}

static const char *decider_v2(struct scene *s, const char *side)
{
	(void)side;
	return scene_text(s, "allow_anonymous true\nauth_plugin " NEIGHBOUR_FILE("decider_v2") "\n");
}

static const char *decider_and_lists(struct scene *s, const char *side)
{
	return scene_text(s, "%splugin " NEIGHBOUR_FILE("decider") "\n", access_lists(s, side));
}

/* What is not listed is denied by deferring, which is what a plugin can spoil. */
static const char *dynamic_security(struct scene *s, const char *side)
{
	static const char *const places[] = {"/usr/lib/*/mosquitto_dynamic_security.so",
		"/usr/lib/*/mosquitto/mosquitto_dynamic_security.so", "/usr/lib/mosquitto_dynamic_security.so"};
	static const char rules[] =
		"{\"defaultACLAccess\":{\"publishClientSend\":false,\"publishClientReceive\":true,\"subscribe\":false,"
		"\"unsubscribe\":true},\"clients\":[%s],\"groups\":[{\"groupname\":\"anyone\",\"roles\":[{\"rolename\":\"some\"}],"
		"\"clients\":[]}],\"roles\":[{\"rolename\":\"some\",\"acls\":["
		"{\"acltype\":\"publishClientSend\",\"topic\":\"public/#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"publishClientSend\",\"topic\":\"$CONTROL/mosquitto-redis/#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"publishClientSend\",\"topic\":\"own/+/x\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"publishClientSend\",\"topic\":\"own/bert/x\",\"priority\":5,\"allow\":false},"
		"{\"acltype\":\"publishClientReceive\",\"topic\":\"denied/#\",\"priority\":0,\"allow\":false},"
		"{\"acltype\":\"subscribePattern\",\"topic\":\"public/#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"subscribePattern\",\"topic\":\"denied/#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"subscribeLiteral\",\"topic\":\"own/+/x\",\"priority\":0,\"allow\":true}"
		"]},{\"rolename\":\"all\",\"acls\":["
		"{\"acltype\":\"publishClientSend\",\"topic\":\"#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"publishClientSend\",\"topic\":\"$CONTROL/mosquitto-redis/#\",\"priority\":0,\"allow\":true},"
		"{\"acltype\":\"subscribePattern\",\"topic\":\"#\",\"priority\":0,\"allow\":true}"
		"]}],\"anonymousGroup\":\"anyone\"}";
	/* PBKDF2 with SHA-512 of "secret". */
	static const char client[] = "{\"username\":\"%s\",\"password\":\"%s\",\"salt\":\"%s\",\"iterations\":101,"
		"\"roles\":[{\"rolename\":\"%s\"}]}";
	static const char hash[] = "J/ug31/4tEj0l6nGBDkQi5OOde+t/bkUTtjrf0zkNfKmOKsQO8YuzD4Vq5SpPvw2GxsGIsaCTqQQBX/KezcQbA==",
		salt[] = "bW9zcXVpdHRvLXJk";
	const char *plugin = NULL, *clients;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !plugin; i++) {
		glob_t found;
		if (glob(places[i], 0, NULL, &found) == 0) plugin = scene_text(s, "%s", found.gl_pathv[0]);
		globfree(&found);
	}
	scene_require(plugin, "mosquitto_dynamic_security.so is not installed");
	clients = scene_text(s, "%s,%s", scene_text(s, client, "boss", hash, salt, "all"),
		scene_text(s, client, "anna", hash, salt, "some"));
	/* Each broker writes its own file. */
	return scene_text(s, "allow_anonymous true\nplugin %s\nplugin_opt_config_file %s\n", plugin,
		scene_write(s, scene_text(s, "dynsec-%s.json", side), scene_text(s, rules, clients)));
}

/* Everything of an access list, in the section of one listener. */
static const char *of_a_listener(struct scene *s, const char *side)
{
	return access_lists(s, side);
}

/* --- comparing -------------------------------------------------------------------------------------------------- */

/* What only another plugin would keep from a reader is the operator's not to grant. */
#define COVERING "mirror # stream s:%t maxlen=1000\nredeliver public/# overlap=0\nredeliver own/%u/# overlap=0\n"
#define BESIDE "mirror elsewhere/# stream e:%t\nredeliver elsewhere/# overlap=0\n"

static const char *settings_of(struct scene *s, struct world *w, uint16_t port, const char *lines)
{
	return scene_write(s, "ours.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 4M\n"
		"node test\nlisten none\nhold_timeout 60s\nbroker_url mqtt://127.0.0.1:%u\nbroker_username boss\nbroker_password_file %s\n%s\n",
		server_port(w->redis), scene_dir(s), port, scene_write(s, "boss.password", "secret\n"), lines));
}

/* A broker, and where it is asked. */
static struct server *broker_of(struct scene *s, const struct way *way, const char *name, const char *settings, uint16_t *port)
{
	const char *options = way->options(s, name), *lines;
	struct server *v;

	lines = settings ? scene_text(s, "plugin " PLUGIN_FILE "\nplugin_opt_config %s\n", settings) : "";
	if (way->place == IN_LISTENER) {
		v = broker_new(s, name, NULL, scene_text(s, "max_queued_messages 0\nper_listener_settings true\nlistener %u 127.0.0.1\n%s%s",
			*port, lines, options));
		return v;
	}
	v = broker_new(s, name, NULL, scene_text(s, "max_queued_messages 0\n%s%s", way->place == FIRST ? lines : options,
		way->place == FIRST ? options : lines));
	*port = server_port(v);
	return v;
}

static void compare_with(struct scene *s, struct world *w, const struct way *way, const char *lines, const char *when)
{
	static struct answers plain, ours;
	uint16_t plain_port = way->place == IN_LISTENER ? scene_port(s) : 0, port = way->place == IN_LISTENER ? scene_port(s) : 0;
	const char *name = scene_text(s, "broker-%s", when), *settings = scene_path(s, "ours.conf");
	struct server *bare = broker_of(s, way, scene_text(s, "plain-%s", when), NULL, &plain_port);
	struct server *broker = broker_of(s, way, name, settings, &port), *bridge;

	(void)settings_of(s, w, port, scene_text(s, "%s%s", lines, way->settings ? way->settings : ""));
	server_start(bare);
	server_start(broker);
	bridge = bridge_new(s, scene_text(s, "bridge-%s", when), settings);
	server_start(bridge);
	server_log_wait(broker, 0, BRIDGE_GREETED, WAIT_MS);
	struct side without = side_of(s, plain_port), with = side_of(s, port);
	ask(&without, &plain);
	ask(&with, &ours);
	same(&plain, &ours, when);
	judged(&plain, way->refuses);
	size_t from = server_log_size(broker), plain_from = server_log_size(bare);
	server_signal(bare, SIGHUP);
	server_signal(broker, SIGHUP);
	server_log_wait(broker, from, "settings: read again", WAIT_MS);
	server_log_wait(bare, plain_from, "Reloading config", WAIT_MS);
	ask(&without, &plain);
	ask(&with, &ours);
	same(&plain, &ours, scene_text(s, "%s, after SIGHUP", when));
	server_stop(bridge);
	server_stop(broker);
	server_stop(bare);
}

static void compare(struct scene *s, const struct way *way)
{
	struct world w = {.scene = s};

	w.redis = redis_new(s, "redis", "");
	server_start(w.redis);
	w.db = store_open(w.redis);
	compare_with(s, &w, way, BESIDE, "beside");
	(void)store_query(w.db, "FLUSHALL", NULL);
	compare_with(s, &w, way, COVERING, "covering");
	scene_end(s);
}

/* Behind another plugin it is warned of on 2.0.x, and an error on 2.1, where our abstention would grant what that one denies. */
static void compare_last(struct scene *s, const struct way *way)
{
	struct world w = {.scene = s};
	uint16_t port = 0;

	if (!broker_has_events(s)) {
		compare(s, way);
		return;
	}
	w.redis = redis_new(s, "redis", "");
	server_start(w.redis);
	struct server *broker = broker_of(s, way, "broker", settings_of(s, &w, 1, BESIDE), &port);
	assert_int_not_equal(server_start_refused(broker), 0);
	assert_true(server_log_has(broker, 0, "put the plugin line of mosquitto-redis first"));
	scene_end(s);
}

static void test_no_control(void **state) { compare(*state, &(struct way){no_control, FIRST, false, NULL}); }
static void test_passwords(void **state) { compare(*state, &(struct way){passwords, FIRST, true, NULL}); }
static void test_access_lists(void **state)
{
	struct scene *s = *state;

	compare(s, &(struct way){access_lists, FIRST, true, scene_text(s, "redeliver # overlap=0\nacl_file %s\n", scene_path(s, "acl"))});
}
static void test_listener(void **state)
{
	struct scene *s = *state;

	compare(s, &(struct way){of_a_listener, IN_LISTENER, true, scene_text(s, "acl_file %s\n", scene_path(s, "acl"))});
}
static void test_dynamic_security(void **state) { compare(*state, &(struct way){dynamic_security, FIRST, true, NULL}); }
static void test_dynamic_security_before(void **state)
{
	compare_last(*state, &(struct way){dynamic_security, LAST, true, NULL});
}
static void test_decider(void **state) { compare(*state, &(struct way){decider, FIRST, true, NULL}); }
static void test_decider_before(void **state) { compare_last(*state, &(struct way){decider, LAST, true, NULL}); }
static void test_old_decider(void **state) { compare(*state, &(struct way){old_decider, FIRST, true, NULL}); }
static void test_old_decider_before(void **state) { compare_last(*state, &(struct way){old_decider, LAST, true, NULL}); }
static void test_decider_v3(void **state) { compare(*state, &(struct way){decider_v3, FIRST, true, NULL}); }
static void test_decider_v3_before(void **state) { compare_last(*state, &(struct way){decider_v3, LAST, true, NULL}); }
static void test_decider_v2(void **state) { compare(*state, &(struct way){decider_v2, FIRST, true, NULL}); }
static void test_decider_v2_before(void **state) { compare_last(*state, &(struct way){decider_v2, LAST, true, NULL}); }
static void test_decider_and_lists(void **state) { compare(*state, &(struct way){decider_and_lists, FIRST, true, NULL}); }

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_no_control),
		scene_test(test_passwords),
		scene_test(test_access_lists),
		scene_test(test_listener),
		scene_test(test_dynamic_security),
		scene_test(test_dynamic_security_before),
		scene_test(test_decider),
		scene_test(test_decider_before),
		scene_test(test_old_decider),
		scene_test(test_old_decider_before),
		scene_test(test_decider_v3),
		scene_test(test_decider_v3_before),
		scene_test(test_decider_v2),
		scene_test(test_decider_v2_before),
		scene_test(test_decider_and_lists),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
