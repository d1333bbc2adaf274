/*
 * What `COMMAND --help` says beyond the command's line in the table. Prints only.
 */
#include <stdio.h>
#include <string.h>

#include "bridge/ctl_command.h"
#include "bridge/ctl_time.h"

static const struct {
	const char *name, *text;
} details[] = {
	{"status",
		"  --json   one JSON document\n\n"
		"Ends with 1 when there is a warning.\n"},
	{"top",
		"  --json   a JSON document a line, every second\n\n"
		"Without a terminal it prints the same text again every second.\n"},
	{"sessions",
		"  PATTERN  of client ids: * any characters, ? one, [a-c] one of them\n"
		"  --json   one JSON document\n\n"
		"STATE is live, catching up or absent; FILTERS are the subscriptions that are remembered; MISSING\n"
		"is how many messages retention had removed, at most, before the last catch-up that found any gone (45+: and more).\n"},
	{"backlog",
		"  --json   one JSON document\n\n"
		"Reads what is stored as redelivery does, with the grants and ACL file of the settings. For a device that is live\n"
		"nothing is owed; for one that catches up the figures are as of about a second ago.\n"},
	{"peek",
		"  -n N     how many (default 10)\n"
		"  --json   one JSON document, an array of messages in full\n"},
	{"rewind",
		"  --to X   " CTL_TIME_ACCEPTED ".\n"
		"           The message with that id comes again too\n"
		"  --yes    do not ask\n"
		"  --json   one JSON document: the cursors before and after\n\n"
		"Moves all subscriptions that are remembered. Refused unless the device is absent.\n"},
	{"purge",
		"  --yes    do not ask\n"
		"  --json   one JSON document: the cursors before and after\n\n"
		"The messages stay in Redis, for consumers and other devices. Refused unless the device is absent.\n"},
	{"replay",
		"  FILTER   as the device has subscribed, or a narrower one\n"
		"  --since  " CTL_TIME_ACCEPTED "\n"
		"  --last N the newest N messages\n"
		"  --id ID  everything behind that id\n\n"
		"The grant must have replay=yes, and a bridge must work.\n"},
	{"tail",
		"  FILTER   an MQTT topic filter, '#' for everything\n"
		"  --since  " CTL_TIME_ACCEPTED "\n"
		"  --json   a JSON document a line\n\n"
		"Shows what streams and JSON lists hold. What consumers take from a list at once may not be seen.\n"},
	{"push",
		"  PAYLOAD   - reads it from the standard input\n"
		"  --qos     0, 1 (default) or 2\n"
		"  --at      not before: +30s, 2026-01-31T12:00:00Z or milliseconds since 1970\n"
		"  --expiry  not later than so many seconds after that\n"
		"  --result  stream for what became of it\n"
		"  --outbox  its key, where the settings have several (default: the first)\n"},
	{"check",
		"  FILE     instead of that of -c\n"},
};

void ctl_help(const struct ctl_command *command)
{
	printf("Usage: " CTL_PROGRAM_NAME " [-c FILE] %s\n%s.\n", command->usage, command->help);
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
		if (strcmp(details[i].name, command->name) == 0) printf("\n%s", details[i].text);
	}
	printf("\n" CTL_EXIT_CODES);
}
