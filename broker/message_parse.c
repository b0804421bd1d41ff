/* The envelope of a task message, and the two older forms that are brought into the newer one. */
#include "broker/json_text.h"
#include "broker/message_parts.h"

#include <stdlib.h>
#include <strings.h>

/* Members of a protocol 1 body that are headers in protocol 2. */
static const char *const v1_headers[] = {"task",    "id",  "group",   "group_index",
                                         "retries", "eta", "expires", "timelimit"};

/* First of all, so that whatever is wrong later, a FAILURE can be stored under the id. */
static void note_id(struct message *m)
{
    const json_t *id = json_object_get(m->headers, "id");
    const char *text = json_string_value(id);

    if (text && *text && strlen(text) == json_string_length(id) && strlen(text) <= MESSAGE_NAME_MAX)
        m->id = text;
}

static int check_refused(const struct message *m, struct err *e)
{
    const json_t *why = json_object_get(m->envelope, MESSAGE_REFUSED);

    if (!why)
        return 0;
    return err_set(e, ERR_DEADLETTER, "%.300s",
                   json_is_string(why) ? json_string_value(why) : "it was refused on its way");
}

static int check_content(const struct message *m, struct err *e)
{
    static const char *const encodings[] = {"utf-8", "utf8", "us-ascii", "ascii", "binary"};
    const char *type = message_need_string(m->envelope, "", "content-type", e);
    const json_t *encoding = json_object_get(m->envelope, "content-encoding");

    if (!type)
        return -1;
    if (strcasecmp(type, "application/json") != 0)
        return err_set(e, ERR_DEADLETTER,
                       "content-type \"%.64s\" is not accepted, only application/json is", type);
    if (!encoding || json_is_null(encoding))
        return 0;
    for (size_t i = 0; json_is_string(encoding) && i < sizeof(encodings) / sizeof(*encodings);
         i++) {
        if (strcasecmp(json_string_value(encoding), encodings[i]) == 0)
            return 0;
    }
    return err_set(e, ERR_DEADLETTER, "content-encoding is not utf-8: %.64s",
                   json_is_string(encoding) ? json_string_value(encoding)
                                            : message_kind_word(encoding));
}

/* Adds what the body of protocol 1 says; -1 when out of memory. */
static int copy_v1_headers(json_t *headers, const json_t *body)
{
    json_t *group = json_object_get(body, "taskset");
    int status = group ? json_object_set(headers, "group", group) : 0;

    for (size_t i = 0; status == 0 && i < sizeof(v1_headers) / sizeof(v1_headers[0]); i++) {
        json_t *value = json_object_get(body, v1_headers[i]);

        if (value && !json_is_null(value))
            status = json_object_set(headers, v1_headers[i], value);
    }
    return status;
}

/* Headers for a message of protocol 1, taken from its body; what was there already wins, as in
 * Celery. The envelope becomes a hybrid message, which Celery reads as well. */
static int headers_from_body(struct message *m, const json_t *body, struct err *e)
{
    json_t *headers = json_object();

    if (!headers || copy_v1_headers(headers, body) < 0 ||
        json_object_update(headers, m->headers) < 0 ||
        json_object_set(m->envelope, "headers", headers) < 0) {
        json_decref(headers);
        return err_nomem(e);
    }
    json_decref(headers); /* the envelope has it */
    m->headers = headers;
    note_id(m);
    return 0;
}

/* No header "task": protocol 1, or not a task at all. */
static int parse_v1(struct message *m, struct err *e)
{
    json_t *body;
    int status = -1;

    /* The headers are read when the body's are among them; how to read the body is one of them. */
    m->compression = json_string_value(json_object_get(m->headers, "compression"));
    body = message_decode_body(m, e);
    if (!body)
        return -1;
    if (!json_is_object(body))
        err_set(e, ERR_DEADLETTER, "header \"task\" is missing and the body is %s, not a map",
                message_kind_word(body));
    else if (headers_from_body(m, body, e) == 0 && message_read_headers(m, e) == 0)
        status = message_split_body(m, body, e);
    json_decref(body);
    return status;
}

static int parse_envelope(struct message *m, struct err *e)
{
    json_t *headers = json_object_get(m->envelope, "headers");
    const json_t *body = json_object_get(m->envelope, "body");

    m->properties = json_object_get(m->envelope, "properties");
    if (!headers || json_is_null(headers)) {
        headers = json_object();
        if (json_object_set_new(m->envelope, "headers", headers) < 0)
            return err_nomem(e);
    }
    if (!json_is_object(headers))
        return err_set(e, ERR_DEADLETTER, "\"headers\" is %s; it must be an object",
                       message_kind_word(headers));
    m->headers = headers;
    note_id(m);
    if (check_refused(m, e) < 0 || check_content(m, e) < 0)
        return -1;
    if (!json_is_object(m->properties))
        return err_set(e, ERR_DEADLETTER, "\"properties\" is %s; it must be an object",
                       message_kind_word(m->properties));
    if (!json_is_string(body))
        return err_set(e, ERR_DEADLETTER, "\"body\" is %s; it must be a string",
                       message_kind_word(body));
    m->body = slice_make(json_string_value(body), json_string_length(body));
    return message_read_properties(m, e);
}

int message_parse(struct message *m, struct slice envelope, struct err *e)
{
    *m = (struct message){.group_index = -1, .ignore_result = -1, .protocol = 2};
    if (envelope.len > MESSAGE_ENVELOPE_MAX)
        return err_set(e, ERR_DEADLETTER, "the message of %zu bytes is over the limit of %u",
                       envelope.len, MESSAGE_ENVELOPE_MAX);
    m->envelope = json_text_read(envelope, "the message", e);
    if (!m->envelope)
        return -1;
    if (!json_is_object(m->envelope))
        return err_set(e, ERR_DEADLETTER, "the message is %s; it must be an object",
                       message_kind_word(m->envelope));
    if (parse_envelope(m, e) < 0)
        return -1;
    return json_object_get(m->headers, "task") ? message_read_headers(m, e) : parse_v1(m, e);
}

/* A skimmed message knows that its text is an envelope. */
static void unfold(struct message *m)
{
    if (m->envelope || !m->text.ptr)
        return;
    m->envelope = json_text_read(m->text, "the message", NULL);
    m->headers = json_object_get(m->envelope, "headers");
    m->properties = json_object_get(m->envelope, "properties");
}

json_t *message_headers(struct message *m)
{
    unfold(m);
    return m->headers;
}

json_t *message_properties(struct message *m)
{
    unfold(m);
    return m->properties;
}

void message_clear(struct message *m)
{
    char *names = m->names;
    size_t cap = m->names_cap;

    json_decref(m->envelope);
    json_decref(m->args);
    json_decref(m->kwargs);
    json_decref(m->embed);
    *m = (struct message){.group_index = -1, .ignore_result = -1, .names = names, .names_cap = cap};
}

void message_release(struct message *m)
{
    message_clear(m);
    free(m->names);
    m->names = NULL;
    m->names_cap = 0;
}
