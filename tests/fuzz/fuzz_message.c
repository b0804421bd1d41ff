/* Any bytes as a task message. Input that begins with '{' is an envelope; otherwise the first byte
 * says which good envelope the rest is put into as its body, since mutations rarely survive base64:
 * '1' protocol 1, 'z' compressed, anything else protocol 2. */
#include "broker/json_plain.h"
#include "broker/json_text.h"
#include "broker/message.h"
#include "broker/result.h"
#include "tests/support/message_same.h"

#include <nettle/base64.h>
#include <stdlib.h>

static void need(bool holds)
{
    if (!holds)
        abort();
}

static void wrap(struct buf *out, const uint8_t *data, size_t len)
{
    static const char v1[] = "{}",
                      zipped[] = "{\"task\": \"t\", \"id\": \"i\", "
                                 "\"compression\": \"application/x-gzip\"}",
                      v2[] = "{\"task\": \"t\", \"id\": \"i\"}";
    const char *headers = *data == '1' ? v1 : *data == 'z' ? zipped : v2;
    size_t room = BASE64_ENCODE_RAW_LENGTH(len - 1);
    char *to;

    buf_addf(out,
             "{\"content-type\": \"application/json\", \"headers\": %s, \"properties\": "
             "{\"body_encoding\": \"base64\", \"delivery_tag\": \"d\", \"delivery_info\": "
             "{\"exchange\": \"\", \"routing_key\": \"q\"}}, \"body\": \"",
             headers);
    to = buf_reserve(out, room + 1);
    need(to != NULL);
    base64_encode_raw(to, len - 1, data + 1);
    buf_commit(out, room);
    buf_adds(out, "\"}");
}

/* What was read can be sent again, and is then the same job. */
static void send_again(struct message *m)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct message_spec spec;
    struct message again;

    need(message_spec_retry(&spec, m, &e) == 0);
    if (message_encode(&out, &spec, &ids, &e) == 0) {
        need(message_parse(&again, buf_slice(&out), &e) == 0);
        need(message_open_body(&again, &e) == 0);
        need(strcmp(again.id, m->id) == 0 && strcmp(again.task, m->task) == 0);
        need(again.retries == m->retries + 1 && again.priority == m->priority);
        need(json_equal(again.args, m->args) && json_equal(again.kwargs, m->kwargs));
        message_release(&again);
    } else {
        need(e.code == ERR_USAGE);
    }
    buf_release(&out);
}

/* What is read without jansson's reader is what that reads. */
static void same_value(struct slice text)
{
    json_t *plain = json_plain_read(text), *value;
    struct err e = ERR_INIT;

    if (!plain)
        return;
    value = json_text_read(text, "text", &e);
    need(json_equal(plain, value));
    json_decref(plain);
    json_decref(value);
}

static void one(struct slice text)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct message m;

    need(!message_same(text, NULL));
    if (message_parse(&m, text, &e) == 0) {
        need(*m.task && *m.id && *m.root_id && m.priority >= 0 && m.priority <= 9);
        need(message_with_header(&out, &m, MESSAGE_H_LOST, json_integer(1), &e) == 0);
        if (message_open_body(&m, &e) == 0)
            send_again(&m);
        else
            need(e.code == ERR_DEADLETTER && e.text[0]);
    } else {
        need(e.code == ERR_DEADLETTER && e.text[0] && !m.args);
    }
    message_release(&m);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf text = BUF_INIT;

    result_is_ready(slice_make(data, len));
    same_value(slice_make(data, len));
    if (len && *data != '{') {
        wrap(&text, data, len);
        one(buf_slice(&text));
    } else {
        one(slice_make(data, len));
    }
    buf_release(&text);
    return 0;
}
