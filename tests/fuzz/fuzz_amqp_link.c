/* Any bytes as what a server says on a link with calls and confirms open. The first byte chooses:
 * 'r' raw bytes; 'p' the properties of a delivered message; anything else, records of type,
 * channel, length and payload, which are put into whole frames, since mutations rarely keep length
 * and end mark right. */
#include "tests/support/amqp_peer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void open_calls(struct peer *p)
{
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("q")};
    amqp_basic_get_t get = {.queue = amqp_cstring_bytes("q")};
    struct err e;

    if (link_confirm_select(p->seen.link, 1, &e) < 0 ||
        link_call(p->seen.link, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, case_answered, NULL, 0,
                  &e) < 0 ||
        link_call(p->seen.link, 1, AMQP_BASIC_GET_METHOD, &get, case_answered, NULL, 0, &e) < 0)
        abort();
    for (int i = 0; i < 70; i++)
        case_publish(&p->seen, 1, "q", true, slice_of("x"));
}

static void say_records(struct peer *p, const uint8_t *data, size_t len)
{
    while (len >= 3) {
        size_t n = data[2] < len - 3 ? data[2] : len - 3;

        peer_frame(p, data[0] % 10, data[1] % 4, data + 3, n);
        data += 3 + n;
        len -= 3 + n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const amqp_confirm_select_ok_t ok = {0};
    struct peer p;

    if (len < 1 || len > 4000)
        return 0;
    peer_open(&p);
    open_calls(&p);
    peer_say(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &ok);
    if (*data == 'r') {
        buf_add(&p.out, data + 1, len - 1);
    } else if (*data == 'p') {
        peer_deliver(&p, 1);
        peer_header(&p, 0, data + 1, len - 1);
    } else {
        say_records(&p, data + 1, len - 1);
    }
    peer_turn(&p);
    peer_turn(&p);
    /* Every call is answered once at most, every number told once. */
    if (p.seen.answers > 2 || p.seen.confirmed + p.seen.nacked > 70 || p.seen.down > 1 ||
        (p.seen.down && link_is_up(p.seen.link)))
        abort();
    peer_close(&p);
    return 0;
}
