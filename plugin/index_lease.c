/* Owns copies of the members it remembers. Writer thread. Compares whole members: a hash alone could be made to collide. */
#include "plugin/index_lease.h"

#include "config/keys.h"

void index_lease_free(struct index_lease *l)
{
	key_set_free(&l->members);
}

void index_lease_forget(struct index_lease *l)
{
	key_set_clear(&l->members);
}

bool index_lease_covers(const struct index_lease *l, struct slice member, uint64_t ms)
{
	if (ms + INDEX_LEASE_LATE_MS < l->now_ms) return false;
	const struct key_entry *entry = key_set_get(&l->members, member);
	return entry && ms <= entry->ms;
}

static bool is_full(const struct index_lease *l, struct slice member)
{
	return l->members.count >= INDEX_LEASE_MEMBERS_MAX || l->members.bytes.len + member.len > INDEX_LEASE_BYTES_MAX;
}

void index_lease_note(struct index_lease *l, const struct key_set *written)
{
	for (size_t i = 0; i < written->count; i++) {
		struct slice member = key_set_bytes(written, &written->entries[i]);
		uint64_t until = written->entries[i].ms + INDEX_AHEAD_MS;
		struct key_entry *entry;
		bool added;
		if (is_full(l, member) && !key_set_get(&l->members, member)) index_lease_forget(l);
		if (key_set_put(&l->members, member, &entry, &added) != ST_OK) return;
		if (until > entry->ms) entry->ms = until;
	}
}
