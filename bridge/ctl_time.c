/*
 * One parser of times for every command. Owns nothing. Must never take a time zone or a language from the environment.
 */
#include "bridge/ctl_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config/rule.h"

#define ID_DIGITS_MIN 12 /* milliseconds since 1970 have as many from September 2001 on */
#define YEAR_10000_MS UINT64_C(253402300800000)

static bool digits(const char *p, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (p[i] < '0' || p[i] > '9') return false;
	}
	return true;
}

static int number(const char *p, size_t count)
{
	int n = 0;

	for (size_t i = 0; i < count; i++) n = n * 10 + (p[i] - '0');
	return n;
}

/* Days since 1970-01-01 in the Gregorian calendar; for years from 1970 on. */
static int64_t days_of(int year, int month, int day)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int y = year - 1;
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	int64_t days = (int64_t)y * 365 + y / 4 - y / 100 + y / 400 - 719162;

	return days + before[month - 1] + (leap && month > 2 ? 1 : 0) + day - 1;
}

static int month_days(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0)) return 29;
	return days[month - 1];
}

/* ".123456" of a second in milliseconds; moves *p behind it. */
static bool fraction(const char **p, int64_t *ms)
{
	int scale = 100;

	if (**p != '.') return true;
	if ((*p)[1] < '0' || (*p)[1] > '9') return false;
	for (++*p; **p >= '0' && **p <= '9'; ++*p) {
		*ms += (**p - '0') * scale;
		scale /= 10;
	}
	return true;
}

/* "Z" or "+01:00", to the end; minutes east. */
static bool zone(const char *p, int *minutes)
{
	*minutes = 0;
	if ((*p == 'Z' || *p == 'z') && p[1] == '\0') return true;
	if ((*p != '+' && *p != '-') || strlen(p) != 6 || !digits(p + 1, 2) || p[3] != ':' || !digits(p + 4, 2)) return false;
	if (number(p + 1, 2) > 23 || number(p + 4, 2) > 59) return false;
	*minutes = (number(p + 1, 2) * 60 + number(p + 4, 2)) * (*p == '-' ? -1 : 1);
	return true;
}

/* RFC 3339 section 5.6 */
static bool date_time(const char *p, struct entry_id *out)
{
	int year, month, day, hour, minute, second, east;
	int64_t ms = 0;

	if (strlen(p) < 20 || !digits(p, 4) || p[4] != '-' || !digits(p + 5, 2) || p[7] != '-' || !digits(p + 8, 2)
		|| !strchr("Tt ", p[10]) || !digits(p + 11, 2) || p[13] != ':' || !digits(p + 14, 2) || p[16] != ':'
		|| !digits(p + 17, 2)) return false;
	year = number(p, 4);
	month = number(p + 5, 2);
	day = number(p + 8, 2);
	hour = number(p + 11, 2);
	minute = number(p + 14, 2);
	second = number(p + 17, 2);
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59
		|| second > 60) return false;
	p += 19;
	if (!fraction(&p, &ms) || !zone(p, &east)) return false;
	ms += ((days_of(year, month, day) * 24 + hour) * 60 + minute - east) * 60000 + (int64_t)second * 1000;
	*out = (struct entry_id){ms > 0 ? (uint64_t)ms : 0, 0};
	return true;
}

/* Has it a unit? A plain number could be seconds as well as an id. */
static bool ago(const char *p, uint64_t now_ms, struct entry_id *out)
{
	size_t len = strlen(p);
	uint64_t ms;

	if (len < 2 || !digits(p, 1) || (p[len - 1] >= '0' && p[len - 1] <= '9') || duration_parse(p, &ms) != ST_OK) return false;
	*out = (struct entry_id){now_ms > ms ? now_ms - ms : 0, 0};
	return true;
}

enum status ctl_time_parse(const char *text, uint64_t now_ms, struct entry_id *out)
{
	size_t len = strlen(text);

	if (strcmp(text, "now") == 0) {
		*out = (struct entry_id){now_ms, 0};
		return ST_OK;
	}
	if (ago(text[0] == '-' ? text + 1 : text, now_ms, out) || date_time(text, out)) return ST_OK;
	if (!strchr(text, '-') && len < ID_DIGITS_MIN) return ST_INVALID;
	return entry_id_parse(slice_of(text, len), out);
}

char *ctl_time_format(uint64_t ms, char out[CTL_TIME_TEXT_MAX])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm utc;
	char text[24];

	if (ms >= YEAR_10000_MS || !gmtime_r(&seconds, &utc) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc) == 0) {
		(void)snprintf(out, CTL_TIME_TEXT_MAX, "%" PRIu64, ms);
	} else {
		(void)snprintf(out, CTL_TIME_TEXT_MAX, "%s.%03uZ", text, (unsigned)(ms % 1000));
	}
	return out;
}

char *ctl_time_span(uint64_t ms, char out[CTL_TIME_TEXT_MAX])
{
	static const struct {
		uint64_t ms, from;
		const char *unit;
	} units[] = {
		{86400000, 2 * 86400000, "d"}, {3600000, 2 * 3600000, "h"}, {60000, 2 * 60000, "m"}, {1000, 1000, "s"}, {1, 0, "ms"},
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (ms < units[i].from) continue;
		(void)snprintf(out, CTL_TIME_TEXT_MAX, "%" PRIu64 "%s", ms / units[i].ms, units[i].unit);
		break;
	}
	return out;
}

uint64_t ctl_time_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
