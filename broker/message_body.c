/* The body of a task message: base64, zlib, JSON, and its two shapes. */
#include "broker/base64.h"
#include "broker/json_plain.h"
#include "broker/json_scan.h"
#include "broker/json_text.h"
#include "broker/message_parts.h"

#include <nettle/base64.h>
#include <zlib.h>

#define INFLATE_STEP (64u * 1024)

static int too_long(struct err *e)
{
    return err_set(e, ERR_DEADLETTER, "the body is over the limit of %u bytes", MESSAGE_BODY_MAX);
}

/* The body's bytes as sent. body_encoding absent or "utf-8" (newer kombu): the text itself. */
static int body_bytes(const struct message *m, struct buf *out, struct err *e)
{
    const char *encoding = m->body_encoding;
    struct slice text = m->body;

    if (text.len > BASE64_ENCODE_RAW_LENGTH(MESSAGE_BODY_MAX))
        return too_long(e);
    if (encoding && strcmp(encoding, "base64") == 0)
        return base64_get(out, text, e);
    if (encoding && strcmp(encoding, "utf-8") != 0)
        return err_set(e, ERR_DEADLETTER, "property \"body_encoding\" is not base64: \"%.32s\"",
                       encoding);
    buf_add(out, text.ptr, text.len);
    return out->failed ? err_nomem(e) : 0;
}

static int inflate_all(z_stream *z, struct buf *out, struct err *e)
{
    int status = Z_OK;

    while (status == Z_OK) {
        char *to = buf_reserve(out, INFLATE_STEP);

        if (!to)
            return err_nomem(e);
        z->next_out = (unsigned char *)to;
        z->avail_out = INFLATE_STEP;
        status = inflate(z, Z_NO_FLUSH);
        buf_commit(out, INFLATE_STEP - z->avail_out);
        if (out->len > MESSAGE_BODY_MAX)
            return too_long(e);
    }
    if (status == Z_STREAM_END && z->avail_in == 0)
        return 0;
    if (status == Z_MEM_ERROR)
        return err_nomem(e);
    return err_set(e, ERR_DEADLETTER, "the body is not a zlib stream: %s",
                   status == Z_STREAM_END ? "bytes follow its end"
                   : z->msg               ? z->msg
                                          : "it ends early");
}

/* The name says gzip, the bytes are a zlib stream (RFC 1950): Celery uses zlib.compress. */
static int decompress(const struct message *m, struct buf *bytes, struct err *e)
{
    const char *codec = m->compression;
    struct buf plain = BUF_INIT;
    z_stream z = {0};
    int status = -1;

    if (!codec || !*codec)
        return 0;
    if (strcmp(codec, "application/x-gzip") != 0 && strcmp(codec, "gzip") != 0 &&
        strcmp(codec, "zlib") != 0)
        return err_set(e, ERR_DEADLETTER,
                       "header \"compression\": \"%.64s\" is not supported, only zlib is", codec);
    if (inflateInit(&z) != Z_OK)
        return err_nomem(e);
    z.next_in = (unsigned char *)bytes->mem + bytes->start;
    z.avail_in = (unsigned)bytes->len;
    status = inflate_all(&z, &plain, e);
    inflateEnd(&z);
    buf_release(bytes);
    *bytes = plain;
    return status;
}

static int body_text(const struct message *m, struct buf *bytes, struct err *e)
{
    if (body_bytes(m, bytes, e) < 0 || decompress(m, bytes, e) < 0)
        return -1;
    return bytes->len > MESSAGE_BODY_MAX ? too_long(e) : 0;
}

json_t *message_decode_body(const struct message *m, struct err *e)
{
    struct buf bytes = BUF_INIT;
    json_t *body = NULL;

    if (body_text(m, &bytes, e) == 0)
        body = json_text_read(buf_slice(&bytes), "the body", e);
    buf_release(&bytes);
    return body;
}

static int check_signature(const json_t *signature, const char *member, struct err *e)
{
    if (!json_is_object(signature))
        return err_set(e, ERR_DEADLETTER, "embed \"%s\" holds %s instead of a signature", member,
                       message_kind_word(signature));
    if (!json_is_string(json_object_get(signature, "task")))
        return err_set(e, ERR_DEADLETTER, "embed \"%s\" holds a signature without a task", member);
    return 0;
}

static int check_signatures(const json_t *list, const char *member, struct err *e)
{
    size_t n = json_array_size(list);

    if (!json_is_array(list))
        return err_set(e, ERR_DEADLETTER, "embed \"%s\" is %s; it must be an array", member,
                       message_kind_word(list));
    for (size_t i = 0; i < n; i++) {
        if (check_signature(json_array_get(list, i), member, e) < 0)
            return -1;
    }
    return 0;
}

static const struct {
    const char *name;
    int (*check)(const json_t *value, const char *name, struct err *e);
} embed_members[] = {{"callbacks", check_signatures},
                     {"errbacks", check_signatures},
                     {"chain", check_signatures},
                     {"chord", check_signature}};

#define EMBED_MEMBERS (sizeof(embed_members) / sizeof(embed_members[0]))

static bool is_set(const json_t *embed, size_t member)
{
    const json_t *value = json_object_get(embed, embed_members[member].name);

    return value && !json_is_null(value);
}

/* Celery would run the task first and then fail. */
static int check_embed(const json_t *from, bool *any, struct err *e)
{
    *any = false;
    for (size_t i = 0; i < EMBED_MEMBERS; i++) {
        const char *name = embed_members[i].name;

        if (!is_set(from, i))
            continue;
        *any = true;
        if (embed_members[i].check(json_object_get(from, name), name, e) < 0)
            return -1;
    }
    return 0;
}

static int set_embed(struct message *m, const json_t *from, struct err *e)
{
    bool any;

    if (check_embed(from, &any, e) < 0)
        return -1;
    if (!any)
        return 0;
    m->embed = json_object();
    if (!m->embed)
        return err_nomem(e);
    for (size_t i = 0; i < EMBED_MEMBERS; i++) {
        json_t *value = json_object_get(from, embed_members[i].name);

        if (json_object_set_new(m->embed, embed_members[i].name,
                                value ? json_incref(value) : json_null()) < 0)
            return err_nomem(e);
    }
    return 0;
}

static int set_arguments(struct message *m, json_t *args, json_t *kwargs, struct err *e)
{
    if (!json_is_array(args))
        return err_set(e, ERR_DEADLETTER, "the arguments (args) are %s; they must be an array",
                       message_kind_word(args));
    if (!json_is_object(kwargs))
        return err_set(e, ERR_DEADLETTER,
                       "the keyword arguments (kwargs) are %s; they must be an object",
                       message_kind_word(kwargs));
    m->args = json_incref(args);
    m->kwargs = json_incref(kwargs);
    return 0;
}

/* Protocol 1 and hybrid: a map. Absent arguments are none. */
static int split_map(struct message *m, json_t *body, struct err *e)
{
    json_t *args = json_object_get(body, "args"), *kwargs = json_object_get(body, "kwargs");
    json_t *no_args = args ? NULL : json_array();
    json_t *no_kwargs = kwargs ? NULL : json_object();
    int status = set_arguments(m, args ? args : no_args, kwargs ? kwargs : no_kwargs, e);

    json_decref(no_args);
    json_decref(no_kwargs);
    m->protocol = 1;
    return status < 0 ? -1 : set_embed(m, body, e);
}

/* Protocol 2. An empty list for embed is what PHP makes of an empty map. */
static int split_array(struct message *m, json_t *body, struct err *e)
{
    const json_t *embed = json_array_get(body, 2);

    if (!json_is_array(body))
        return err_set(e, ERR_DEADLETTER, "the body is %s; it must be an array",
                       message_kind_word(body));
    if (json_array_size(body) != 3)
        return err_set(e, ERR_DEADLETTER,
                       "the body has %zu elements instead of 3 (args, kwargs, embed)",
                       json_array_size(body));
    if (!json_is_object(embed) && !json_is_null(embed) &&
        !(json_is_array(embed) && json_array_size(embed) == 0))
        return err_set(e, ERR_DEADLETTER, "the body's embed is %s; it must be an object",
                       message_kind_word(embed));
    if (set_arguments(m, json_array_get(body, 0), json_array_get(body, 1), e) < 0)
        return -1;
    return set_embed(m, embed, e);
}

static void close_body(struct message *m)
{
    json_decref(m->args);
    json_decref(m->kwargs);
    json_decref(m->embed);
    m->args = m->kwargs = m->embed = NULL;
}

/* All of it or nothing: a half-opened message would look opened at the next call. */
int message_split_body(struct message *m, json_t *body, struct err *e)
{
    if ((json_is_object(body) ? split_map(m, body, e) : split_array(m, body, e)) == 0)
        return 0;
    close_body(m);
    return -1;
}

/* Every member of the embed null: most jobs. */
static bool embed_is_empty(struct json_scan *s)
{
    struct slice name, value;
    bool escaped;

    if (!json_scan_enter(s, '{'))
        return false;
    while (json_scan_member(s, &name)) {
        if (json_scan_value(s, &value, &escaped) != JSON_NULL)
            return false;
    }
    return !s->failed;
}

static json_t *read_arguments(struct slice text, struct err *e)
{
    json_t *plain = json_plain_read(text);

    return plain ? plain : json_text_read(text, "the body", e);
}

/* [args, kwargs, {all null}]: only the arguments become values. 1: the body is not of this form. */
static int open_plain(struct message *m, struct slice text, struct err *e)
{
    struct json_scan s;
    struct slice args, kwargs;

    json_scan_init(&s, text);
    if (!json_scan_enter(&s, '[') || !json_scan_element(&s) ||
        json_scan_value(&s, &args, NULL) != JSON_ARRAY || !json_scan_element(&s) ||
        json_scan_value(&s, &kwargs, NULL) != JSON_OBJECT || !json_scan_element(&s) ||
        !embed_is_empty(&s) || json_scan_element(&s) || !json_scan_done(&s))
        return 1;
    m->args = read_arguments(args, e);
    m->kwargs = m->args ? read_arguments(kwargs, e) : NULL;
    if (m->kwargs)
        return 0;
    close_body(m);
    return -1;
}

static int open_any(struct message *m, struct slice text, struct err *e)
{
    json_t *body = json_text_read(text, "the body", e);
    int status = body ? message_split_body(m, body, e) : -1;

    json_decref(body);
    return status;
}

int message_open_body(struct message *m, struct err *e)
{
    struct buf bytes = BUF_INIT;
    int status = -1;

    /* A message of protocol 1 was opened when it was parsed. */
    if (m->args)
        return 0;
    if (body_text(m, &bytes, e) == 0) {
        status = open_plain(m, buf_slice(&bytes), e);
        if (status > 0)
            status = open_any(m, buf_slice(&bytes), e);
    }
    buf_release(&bytes);
    return status;
}
