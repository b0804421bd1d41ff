#include "tests/support/rabbitmq_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rabbitmq_fresh_url(char *url, size_t size)
{
    const char *command = getenv("CELERIAC_TEST_AMQP_FRESH");
    /* NOLINTNEXTLINE(cert-env33-c): the test's own words */
    FILE *f = command ? popen(command, "r") : NULL;
    const char *line;

    if (!f)
        return -1;
    line = fgets(url, (int)size, f);
    if (pclose(f) != 0 || !line)
        return -1;
    url[strcspn(url, "\n")] = '\0';
    return 0;
}
