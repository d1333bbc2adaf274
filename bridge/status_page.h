/* bridge/status_page.html as it was at build time; made by bridge/embed.cmake. */
#ifndef MQR_BRIDGE_STATUS_PAGE_H
#define MQR_BRIDGE_STATUS_PAGE_H

#include <stddef.h>

extern const unsigned char status_page[];
extern const size_t status_page_len;

#endif
