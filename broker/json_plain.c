#include "broker/json_plain.h"

#include "broker/json_scan.h"

#define DEPTH_MAX  64
#define VALUES_MAX 100000 /* more are counted by json_text_read, which has a limit */

struct reader {
    struct json_scan scan;
    unsigned values;
    int depth;
};

static json_t *read_value(struct reader *r);

/* All of a container, or nothing. */
static json_t *whole(struct reader *r, json_t *container, bool complete)
{
    if (complete && !r->scan.failed)
        return container;
    json_decref(container);
    return NULL;
}

static json_t *read_array(struct reader *r)
{
    json_t *array = json_array();
    bool complete = array && json_scan_enter(&r->scan, '[');

    while (complete && json_scan_element(&r->scan))
        complete = json_array_append_new(array, read_value(r)) == 0;
    return whole(r, array, complete);
}

static json_t *read_object(struct reader *r)
{
    json_t *object = json_object();
    bool complete = object && json_scan_enter(&r->scan, '{');
    struct slice key;

    while (complete && json_scan_member(&r->scan, &key))
        complete = json_object_setn_new_nocheck(object, key.ptr, key.len, read_value(r)) == 0;
    return whole(r, object, complete);
}

static json_t *read_scalar(struct reader *r)
{
    struct slice text;
    bool escaped;

    switch (json_scan_value(&r->scan, &text, &escaped)) {
    case JSON_STRING:
        return escaped ? NULL : json_stringn_nocheck(text.ptr, text.len);
    case JSON_INTEGER:
        return json_integer(json_scan_integer(text));
    case JSON_NULL:
        return json_null();
    case JSON_TRUE:
        return json_true();
    case JSON_FALSE:
        return json_false();
    default:
        return NULL; /* reals are the full reader's */
    }
}

static json_t *read_value(struct reader *r)
{
    char first = json_scan_peek(&r->scan);
    json_t *value;

    if (++r->values > VALUES_MAX || r->depth == DEPTH_MAX)
        return NULL;
    r->depth++;
    value = first == '[' ? read_array(r) : first == '{' ? read_object(r) : read_scalar(r);
    r->depth--;
    return value;
}

json_t *json_plain_read(struct slice text)
{
    struct reader r = {.depth = 0};
    json_t *value;

    json_scan_init(&r.scan, text);
    value = read_value(&r);
    if (value && json_scan_done(&r.scan))
        return value;
    json_decref(value);
    return NULL;
}
