/*
 * Whether a watched subscription was granted, as far as the number of subscriptions tells.
 */
#include "device_rig.h"

#include "plugin/watch.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/%u/# overlap=0", NULL};
static int subscriptions, asked;
static const void *asked_handle;

static int count(const void *handle)
{
	asked++;
	asked_handle = handle;
	return subscriptions;
}

/* One watched SUBSCRIBE for the filter by alice; its names are gone before it is resolved. */
static bool watched(struct rig *r, struct watch *w, const char *filter, int before, int after, bool doubtful)
{
	struct client_info c = rig_client(NULL);
	char id[] = "d1", user[] = "alice", text[64];
	int handle;
	bool held;

	c.id = id;
	c.user = user;
	snprintf(text, sizeof text, "%s", filter);
	subscriptions = after;
	asked = 0;
	watch_begin(w, &c, text, 1, &handle, before, doubtful);
	memset(id, '?', sizeof id - 1);
	memset(user, '?', sizeof user - 1);
	memset(text, '?', sizeof text - 1);
	watch_resolve(w, r->devices, count);
	if (asked) assert_ptr_equal(asked_handle, &handle);
	watch_resolve(w, r->devices, count);
	held = devices_any_gated(r->devices);
	if (held) rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	else rig_expect_none(r);
	return held;
}

static void run(bool doubtful, int before, int after, bool expected)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct watch w = {0};

	watch_resolve(&w, r->devices, count);
	assert_true(watched(r, &w, "dev/alice/x", before, after, doubtful) == expected);
	assert_int_equal(asked, doubtful ? 1 : 0);
	watch_fini(&w);
	rig_free(r);
}

static void test_granted(void **state)
{
	(void)state;
	run(false, 0, 0, true);
	run(false, 3, 3, true);
}

static void test_doubtful(void **state)
{
	(void)state;
	run(true, 0, 1, true);
	run(true, 0, 0, false);
	run(true, 4, 4, false);
	run(true, 4, 3, false);
	run(true, 4, 5, true);
}

/* A filter that the device has is there already, so nothing grows when it subscribes again. */
static void test_doubtful_known_filter(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_client("d1");
	struct watch w = {0};
	int handle;

	(void)state;
	c.user = "alice";
	c.clean = false;
	devices_subscribed(r->devices, &c, "dev/alice/x", 1);
	devices_disconnected(r->devices, "d1", true);
	devices_seen(r->devices, "d1", 1);
	subscriptions = 1;
	watch_begin(&w, &c, "dev/alice/y", 1, &handle, 1, true);
	watch_resolve(&w, r->devices, count);
	assert_int_equal(devices_count(r->devices).catching, 0);
	watch_begin(&w, &c, "dev/alice/x", 1, &handle, 1, true);
	watch_resolve(&w, r->devices, count);
	assert_int_equal(devices_count(r->devices).catching, 1);
	watch_fini(&w);
	rig_free(r);
}

static void test_anonymous(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_client("d1");
	struct watch w = {0};
	int handle;

	(void)state;
	watch_begin(&w, &c, "dev/#", 1, &handle, 0, false);
	assert_null(w.client.user);
	watch_resolve(&w, r->devices, count);
	assert_false(devices_any_gated(r->devices)); /* no user name, no grant by it */
	watch_fini(&w);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_granted), cmocka_unit_test(test_doubtful), cmocka_unit_test(test_doubtful_known_filter),
		cmocka_unit_test(test_anonymous),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
