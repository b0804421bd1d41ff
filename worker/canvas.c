#include "worker/canvas.h"

#include "broker/json_text.h"
#include "worker/channel.h"

#define DEFAULT_QUEUE "celery"

int canvas_put_spec(struct buf *out, const struct message_spec *spec, int64_t not_before_ms,
                    bool continues, struct uuid_source *ids, struct err *e)
{
    struct buf envelope = BUF_INIT;
    struct channel_followup f = {
        .queue = slice_of(spec->queue ? spec->queue : DEFAULT_QUEUE),
        .id = slice_of(spec->id),
        .not_before_ms = not_before_ms,
        .priority = spec->priority,
        .continues = continues,
    };
    int rc = message_encode(&envelope, spec, ids, e);

    if (rc == 0) {
        f.envelope = buf_slice(&envelope);
        channel_put_followup(out, &f);
        rc = out->failed ? err_nomem(e) : 0;
    }
    buf_release(&envelope);
    return rc;
}

/* Signatures of more than one task say so in subtask_type. */
static int check_single(const json_t *signature, struct err *e)
{
    const char *type = json_string_value(json_object_get(signature, "subtask_type"));
    const char *task = json_string_value(json_object_get(signature, "task"));

    if (type)
        return err_set(e, ERR_REFUSED, "signatures of type \"%s\" are not implemented", type);
    if (task && strncmp(task, "celery.", 7) == 0)
        return err_set(e, ERR_REFUSED, "the task \"%s\" is not implemented", task);
    return 0;
}

/* A list where Celery allows one signature as well. New reference. */
static json_t *as_list(json_t *value)
{
    if (json_is_object(value))
        return json_pack("[O]", value);
    return value ? json_incref(value) : json_null();
}

static json_t *make_embed(const json_t *options, json_t *chain)
{
    json_t *chord = json_object_get(options, "chord");

    if (!chain)
        chain = json_object_get(options, "chain");
    return json_pack("{s:o, s:o, s:O, s:O}", "callbacks", as_list(json_object_get(options, "link")),
                     "errbacks", as_list(json_object_get(options, "link_error")), "chain",
                     chain ? chain : json_null(), "chord", chord ? chord : json_null());
}

/* The options that message_spec_signature reads: those that became the embed, and the stamps, taken
 * out. New reference. */
static json_t *plain_options(const json_t *options)
{
    static const char *const elsewhere[] = {"link",  "link_error", "chain",
                                            "chord", "chord_size", "stamped_headers"};
    json_t *copy = options ? json_text_copy(options) : json_object();
    const json_t *stamp;
    size_t i;

    json_array_foreach(json_object_get(options, "stamped_headers"), i, stamp)
    {
        if (json_is_string(stamp))
            json_object_del(copy, json_string_value(stamp));
    }
    for (i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        json_object_del(copy, elsewhere[i]);
    return copy;
}

/* Stamps: those of the signature's options, and where they are silent those of the job at hand. */
static int collect_stamps(json_t *stamps, const json_t *options, const json_t *parent)
{
    json_t *item, *value;
    const char *name;
    size_t i;

    json_array_foreach(json_object_get(options, "stamped_headers"), i, item)
    {
        name = json_string_value(item);
        value = name ? json_object_get(options, name) : NULL;
        if (value && json_object_set(stamps, name, value) < 0)
            return -1;
    }
    /* jansson's own update_missing does not say when it had no memory. */
    json_object_foreach(json_object_get(parent, "stamps"), name, value)
    {
        if (!json_object_get(stamps, name) && json_object_set(stamps, name, value) < 0)
            return -1;
    }
    return 0;
}

/* The spec's headers with both headers of the stamps: a new reference, or NULL. */
static json_t *stamped_headers(const struct message_spec *spec, json_t *stamps)
{
    json_t *headers = spec->headers ? json_text_copy(spec->headers) : json_object();
    json_t *names = json_array(), *value;
    int rc = headers && names ? 0 : -1;
    const char *name;

    json_object_foreach(stamps, name, value)
    {
        if (rc == 0)
            rc = json_array_append_new(names, json_string(name));
    }
    if (rc == 0 && json_object_set(headers, "stamped_headers", names) == 0 &&
        json_object_set(headers, "stamps", stamps) == 0) {
        json_decref(names);
        return headers;
    }
    json_decref(names);
    json_decref(headers);
    return NULL;
}

/* Puts the stamps into the spec's headers, made anew in *headers, which the caller owns. parent:
 * whose stamps are inherited, or NULL. */
static int add_stamps(struct message_spec *spec, const json_t *options, struct message *parent,
                      json_t **headers, struct err *e)
{
    const json_t *given = parent ? message_headers(parent) : NULL;
    json_t *stamps = parent && !given ? NULL : json_object();
    int rc = stamps && collect_stamps(stamps, options, given) == 0 ? 0 : err_nomem(e);

    if (rc == 0 && json_object_size(stamps)) {
        *headers = stamped_headers(spec, stamps);
        spec->headers = *headers;
        rc = *headers ? 0 : err_nomem(e);
    }
    json_decref(stamps);
    return rc;
}

/* [argument] + args. New reference. */
static json_t *make_args(const json_t *signature, json_t *argument)
{
    json_t *args = json_object_get(signature, "args");
    json_t *made;

    if (!argument || json_is_true(json_object_get(signature, "immutable")))
        return args ? json_incref(args) : json_array();
    made = json_pack("[O]", argument);
    if (!json_is_array(args) || json_array_extend(made, args) == 0)
        return made;
    json_decref(made);
    return NULL;
}

int canvas_put(struct buf *out, json_t *signature, const struct canvas_sender *from,
               const struct canvas_with *with, char id_out[UUID_SIZE], struct err *e)
{
    const json_t *options = json_object_get(signature, "options");
    struct message_spec spec;
    int64_t not_before_ms;
    json_t *plain, *embed, *headers = NULL;
    int rc = -1;

    if (check_single(signature, e) < 0)
        return -1;
    embed = make_embed(options, with->chain);
    plain = json_is_object(signature) ? json_text_copy(signature) : json_object();
    if (!embed || !plain || json_object_set_new(plain, "options", plain_options(options)) < 0 ||
        json_object_set_new(plain, "args", make_args(signature, with->argument)) < 0) {
        err_nomem(e);
        goto out;
    }
    if (message_spec_signature(&spec, plain, from->message, from->ids, from->now_ms, id_out,
                               &not_before_ms, e) < 0)
        goto out;
    spec.embed = embed;
    if (add_stamps(&spec, options, with->argument ? from->message : NULL, &headers, e) < 0)
        goto out;
    if (with->group && !spec.group) {
        spec.group = with->group;
        spec.group_index = with->group_index;
    }
    rc = canvas_put_spec(out, &spec, not_before_ms, false, from->ids, e);
out:
    json_decref(headers);
    json_decref(plain);
    json_decref(embed);
    return rc;
}
