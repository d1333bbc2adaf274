/* Standard input, output and error, for programs that are started without one of them. Before anything else is opened. */
#ifndef MQR_BRIDGE_STD_FILES_H
#define MQR_BRIDGE_STD_FILES_H

/* What is closed becomes /dev/null, so that no socket gets its number: libuv ends the process for that, and a stray line
 * would be sent to Redis. */
void std_files_open(void);

#endif
