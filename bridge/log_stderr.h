/* The bridge's log: lines on stderr, with time and level, or as systemd's journal wants them. Loop thread. */
#ifndef MQR_BRIDGE_LOG_STDERR_H
#define MQR_BRIDGE_LOG_STDERR_H

#include "config/log.h"

/* Debug lines are left out. The sink may be used until the program ends. */
struct log_sink log_stderr(void);

#endif
