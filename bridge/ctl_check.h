/* Loads the settings and says what is in them; shared by `mosquitto-redis-bridge --check` and `mosquitto-redis-ctl
 * check`. */
#ifndef MQR_BRIDGE_CTL_CHECK_H
#define MQR_BRIDGE_CTL_CHECK_H

#define CTL_CONFIG_DEFAULT "/etc/mosquitto/mosquitto-redis.conf"
#define CTL_WHY_MAX 16384

enum ctl_exit { CTL_OK = 0, CTL_PROBLEM = 1, CTL_USAGE = 2, CTL_UNREACHABLE = 3 };

/* Prints "FILE: ok" and a summary to stdout, or the errors to stderr. CTL_OK or CTL_PROBLEM. Blocks. */
int ctl_check(const char *path);

#endif
