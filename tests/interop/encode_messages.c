/* Writes one envelope per line of standard input, for check_message.py. A line is an object: task,
 * id, args, kwargs, and any numbers and texts of a message_spec. */
#include "broker/json_text.h"
#include "broker/message.h"

#include <stdio.h>
#include <stdlib.h>

static int64_t integer(const json_t *line, const char *name)
{
    return json_integer_value(json_object_get(line, name));
}

static const char *text(const json_t *line, const char *name)
{
    return json_string_value(json_object_get(line, name));
}

static int encode(const json_t *line, struct uuid_source *ids, struct err *e)
{
    const json_t *index = json_object_get(line, "group_index");
    struct message_spec spec = {
        .task = text(line, "task"),
        .id = text(line, "id"),
        .root_id = text(line, "root_id"),
        .parent_id = text(line, "parent_id"),
        .group = text(line, "group"),
        .group_index = index ? json_integer_value(index) : -1,
        .args = json_object_get(line, "args"),
        .kwargs = json_object_get(line, "kwargs"),
        .headers = json_object_get(line, "headers"),
        .queue = text(line, "queue"),
        .shadow = text(line, "shadow"),
        .eta_ms = integer(line, "eta_ms"),
        .expires_ms = integer(line, "expires_ms"),
        .hard_limit_s = json_number_value(json_object_get(line, "hard_limit_s")),
        .soft_limit_s = json_number_value(json_object_get(line, "soft_limit_s")),
        .retries = integer(line, "retries"),
        .priority = (int)integer(line, "priority"),
        .ignore_result = (int)integer(line, "ignore_result"),
        .now_ms = integer(line, "now_ms"),
    };
    struct buf out = BUF_INIT;
    int status = message_encode(&out, &spec, ids, e);

    if (status == 0)
        puts(buf_str(&out));
    buf_release(&out);
    return status;
}

int main(void)
{
    struct uuid_source ids = UUID_SOURCE_INIT;
    struct err e = ERR_INIT;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    int status = 0;

    while (status == 0 && (len = getline(&line, &size, stdin)) > 0) {
        json_t *object = json_text_read(slice_make(line, (size_t)len), "the line", &e);

        status = object ? encode(object, &ids, &e) : -1;
        json_decref(object);
    }
    free(line);
    if (status < 0)
        fprintf(stderr, "encode_messages: %s\n", e.text);
    return status < 0;
}
