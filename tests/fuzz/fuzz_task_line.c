/* Any bytes as a line of `call -`: what the reader of plain lines takes, the full reader takes too,
 * and both make the same message of it. */
#include "broker/message.h"
#include "client/task_call.h"

#include <stdlib.h>
#include <string.h>

#define NOW_MS 1795000000000

static void need(bool holds)
{
    if (!holds)
        abort();
}

/* What the message says, without what is random or only written differently. */
static struct message read_back(const struct task_call *call)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct outgoing o = {.id = ""};
    struct err e = ERR_INIT;
    struct message m;

    need(task_call_encode(call, &ids, NOW_MS, &o, &e) == 0);
    need(message_parse(&m, outgoing_envelope(&o), &e) == 0);
    need(message_open_body(&m, &e) == 0);
    json_object_del(m.properties, "delivery_tag");
    json_object_del(m.envelope, "body");
    /* A name that an object has twice stands twice in the representation of the text. */
    if (memchr(call->args_text.ptr ? call->args_text.ptr : "", '{', call->args_text.len))
        json_object_del(m.headers, "argsrepr");
    json_object_del(m.headers, "kwargsrepr");
    outgoing_release(&o);
    return m;
}

static void same_message(struct task_call *plain, struct task_call *full)
{
    struct message a, b;

    plain->id = full->id = plain->id ? plain->id : "i";
    plain->origin = full->origin = "gen1@here";
    a = read_back(plain);
    b = read_back(full);
    if (!json_object_get(a.headers, "argsrepr"))
        json_object_del(b.headers, "argsrepr");
    need(json_equal(a.envelope, b.envelope));
    need(json_equal(a.args, b.args) && json_equal(a.kwargs, b.kwargs));
    message_release(&a);
    message_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct task_call plain = {.task = NULL}, full;
    struct err e = ERR_INIT;
    struct task_names names;
    json_t *object;

    if (!task_call_from_plain(&plain, &names, slice_make(data, len)))
        return 0;
    object = json_loadb((const char *)data, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    need(object != NULL && task_call_from_json(&full, object, &e) == 0);
    same_message(&plain, &full);
    task_call_release(&full);
    json_decref(object);
    return 0;
}
