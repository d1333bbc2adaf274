/* The bridge's log: lines on stderr, with time and level, or as systemd's journal wants them. Loop thread. */
#ifndef MQR_BRIDGE_LOG_STDERR_H
#define MQR_BRIDGE_LOG_STDERR_H

#include "config/log.h"

/* The sink may be used until the program ends. */
struct log_sink log_stderr(void);
/* Lines above this level are left out; LOG_LEVEL_INFO at first. Before the first line. */
void log_stderr_limit(enum log_level limit);

#endif
