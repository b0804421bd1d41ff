/* Envelopes as AMQP messages and deliveries as envelopes, each through the bytes of a frame. */
#include "broker/amqp_envelope.h"
#include "broker/message.h"
#include "tests/support/check.h"
#include "tests/support/file.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>

#define MESSAGES TEST_SOURCE_DIR "/support/messages/"

struct fixture {
    amqp_pool_t pool;
    struct buf envelope;
    struct buf back;
    struct amqp_outgoing out;
    struct amqp_incoming in;
    amqp_basic_properties_t properties; /* of in, when a test makes them itself */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    init_amqp_pool(&f->pool, 4096);
    f->in.properties = &f->properties;
    f->in.routing_key = slice_of("celery");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    empty_amqp_pool(&f->pool);
    buf_release(&f->envelope);
    buf_release(&f->back);
    free(f);
    return 0;
}

static void send_text(struct fixture *f, const char *envelope)
{
    struct err e = ERR_INIT;

    buf_clear(&f->envelope);
    buf_adds(&f->envelope, envelope);
    CHECK_OK(amqp_envelope_to_message(&f->out, buf_slice(&f->envelope), 0, &f->pool, &e));
}

/* out as a peer receives it. */
static void transmit(struct fixture *f)
{
    size_t size = amqp_properties_size(&f->out.properties);
    amqp_bytes_t frame = {size, amqp_pool_alloc(&f->pool, size)};
    void *decoded = NULL;

    assert_int_equal(amqp_encode_properties(AMQP_BASIC_CLASS, &f->out.properties, frame), size);
    assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, &f->pool, frame, &decoded), 0);
    f->in.properties = decoded;
    f->in.body = f->out.body;
}

static const char *receive(struct fixture *f)
{
    struct err e = ERR_INIT;

    buf_clear(&f->back);
    CHECK_OK(amqp_envelope_from_delivery(&f->back, &f->in, slice_of("celery"), &e));
    return buf_str(&f->back);
}

static json_t *parsed(struct buf *text)
{
    json_t *json = json_loadb(buf_str(text), text->len, JSON_ALLOW_NUL, NULL);

    assert_non_null(json);
    return json;
}

/* Its words as a peer sees them. */
static void assert_property(struct slice got, const char *want)
{
    if (!slice_is(got, want))
        fail_msg("got \"%.*s\", wanted \"%s\"", SLICE_ARG(got), want);
}

static struct slice of(amqp_bytes_t bytes)
{
    return slice_make(bytes.bytes, bytes.len);
}

/* --- every message that was captured --- */

/* The two differ only in what belongs to the way. */
static void assert_same_job(json_t *sent, json_t *came)
{
    json_t *a = json_object_get(sent, "properties"), *b = json_object_get(came, "properties");

    json_object_del(a, "delivery_tag");
    json_object_del(b, "delivery_tag");
    json_object_del(a, "delivery_info");
    json_object_del(b, "delivery_info");
    json_object_del(a, "origin"); /* a retry of Celery's leaks it into the properties of Redis */
    if (!json_equal(sent, came))
        fail_msg("sent %s\ncame %s", json_dumps(sent, JSON_SORT_KEYS),
                 json_dumps(came, JSON_SORT_KEYS));
}

static void check_capture(struct fixture *f, const char *path)
{
    struct err e = ERR_INIT;
    struct message before, after;
    json_t *sent, *came;

    buf_clear(&f->envelope);
    assert_int_equal(file_read(&f->envelope, path), 0);
    CHECK_OK(amqp_envelope_to_message(&f->out, buf_slice(&f->envelope), 0, &f->pool, &e));
    assert_false(f->out.raw);
    transmit(f);
    receive(f);
    sent = parsed(&f->envelope);
    came = parsed(&f->back);
    assert_same_job(sent, came);
    CHECK_OK(message_parse(&before, buf_slice(&f->envelope), &e));
    CHECK_OK(message_parse(&after, buf_slice(&f->back), &e));
    CHECK_OK(message_open_body(&before, &e));
    CHECK_OK(message_open_body(&after, &e));
    assert_true(json_equal(before.args, after.args) && json_equal(before.kwargs, after.kwargs));
    assert_string_equal(before.id, after.id);
    assert_string_equal(after.queue, "celery");
    message_release(&before);
    message_release(&after);
    json_decref(sent);
    json_decref(came);
}

static void captures_survive(void **state)
{
    glob_t found;

    assert_int_equal(glob(MESSAGES "*.json", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 20);
    for (size_t i = 0; i < found.gl_pathc; i++)
        check_capture(*state, found.gl_pathv[i]);
    globfree(&found);
}

/* --- what Celery's AMQP side sends --- */

#define BODY "W1tdLCB7fSwge31d" /* [[], {}, {}] */

static void properties_are_celerys(void **state)
{
    struct fixture *f = *state;
    const amqp_basic_properties_t *p;

    send_text(
        f, "{\"body\": \"" BODY "\", \"content-encoding\": \"utf-8\", \"content-type\": "
           "\"application/json\", \"headers\": {\"task\": \"t\", \"id\": \"i\", \"retries\": 2}, "
           "\"properties\": {\"correlation_id\": \"i\", \"reply_to\": \"r\", \"delivery_mode\": 2, "
           "\"expiration\": \"120000\", \"priority\": 5, \"body_encoding\": \"base64\", "
           "\"delivery_tag\": \"d\", \"delivery_info\": {\"exchange\": \"\", \"routing_key\": "
           "\"celery\"}}}");
    assert_false(f->out.raw);
    transmit(f);
    p = f->in.properties;
    assert_int_equal(p->_flags, AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                                    AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                                    AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                                    AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_EXPIRATION_FLAG);
    assert_property(of(p->content_type), "application/json");
    assert_property(of(p->content_encoding), "utf-8");
    assert_property(of(p->correlation_id), "i");
    assert_property(of(p->reply_to), "r");
    assert_property(of(p->expiration), "120000");
    assert_int_equal(p->delivery_mode, 2);
    assert_int_equal(p->priority, 5);
    assert_property(f->in.body, "[[], {}, {}]");
    amqp_outgoing_delayed(&f->out);
    assert_false(f->out.properties._flags & AMQP_BASIC_EXPIRATION_FLAG);
}

static void envelope_is_kombus(void **state)
{
    struct fixture *f = *state;

    send_text(f, "{\"body\": \"" BODY "\", \"content-type\": \"application/json\", \"headers\": "
                 "{\"task\": \"t\", \"id\": \"i\"}, \"properties\": {\"correlation_id\": \"i\", "
                 "\"priority\": 0, \"timestamp\": 7, \"user_id\": \"somebody\", \"type\": null, "
                 "\"body_encoding\": \"base64\"}}");
    transmit(f);
    f->in.delivery_tag = 12;
    assert_string_equal(
        receive(f), "{\"body\": \"" BODY "\", \"content-type\": \"application/json\", \"headers\": "
                    "{\"task\": \"t\", \"id\": \"i\"}, \"properties\": {\"correlation_id\": \"i\", "
                    "\"priority\": 0, \"timestamp\": 7, \"delivery_info\": {\"exchange\": \"\", "
                    "\"routing_key\": \"celery\"}, \"body_encoding\": \"base64\", "
                    "\"delivery_tag\": 12}}");
}

/* A retry must find the queue again, whatever way the message came. */
static void way_is_told_but_not_followed(void **state)
{
    struct fixture *f = *state;

    f->in.exchange = slice_of("celery_delayed_delivery");
    f->in.routing_key = slice_of("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.celery");
    f->in.redelivered = true;
    assert_non_null(strstr(receive(f), "\"delivery_info\": {\"exchange\": \"\", \"routing_key\": "
                                       "\"celery\", \"redelivered\": true, \"sent_exchange\": "
                                       "\"celery_delayed_delivery\"}"));
    f->in.routing_key = slice_of("task.video");
    assert_non_null(strstr(receive(f), "\"sent_key\": \"task.video\"}"));
}

static void bodies_are_bytes(void **state)
{
    static const unsigned char bytes[] = {0, 0xff, '"', 0x80, '\n'};
    struct fixture *f = *state;

    f->in.body = slice_make(bytes, sizeof(bytes));
    receive(f);
    send_text(f, buf_str(&f->back));
    assert_int_equal(f->out.body.len, sizeof(bytes));
    assert_memory_equal(f->out.body.ptr, bytes, sizeof(bytes));
    f->in.body = slice_make(NULL, 0);
    receive(f);
    send_text(f, buf_str(&f->back));
    assert_int_equal(f->out.body.len, 0);
    assert_false(f->out.raw);
    send_text(f, "{\"body\": \"[[],\\u0000\\u00e9]\"}");
    assert_true(slice_eq(f->out.body, slice_make("[[],\0\xc3\xa9]", 8)));
    send_text(f, "{\"body\": \"{}\", \"properties\": {\"body_encoding\": \"utf-8\"}}");
    assert_property(f->out.body, "{}");
}

static void servers_headers_are_not_sent(void **state)
{
    struct fixture *f = *state;

    send_text(f,
              "{\"body\": \"\", \"headers\": {\"x-death\": [{\"count\": 1}], \"id\": \"i\", "
              "\"x-delivery-count\": 3, \"x-first-death-queue\": \"q\", \"x-last-death-reason\": "
              "\"r\", \"x-own\": 1}}");
    assert_int_equal(f->out.properties.headers.num_entries, 2);
    assert_non_null(amqp_table_get(&f->out.properties.headers, "id"));
    assert_non_null(amqp_table_get(&f->out.properties.headers, "x-own"));
}

static void odd_numbers_are_made_to_fit(void **state)
{
    struct fixture *f = *state;

    send_text(f, "{\"body\": \"\", \"properties\": {\"priority\": \"7\", \"delivery_mode\": 300, "
                 "\"expiration\": 5000, \"timestamp\": -4}}");
    assert_false(f->out.raw);
    assert_int_equal(f->out.properties.priority, 7);
    assert_int_equal(f->out.properties.delivery_mode, 255);
    assert_int_equal(f->out.properties.timestamp, 0);
    assert_property(of(f->out.properties.expiration), "5000");
    /* 60 days: RabbitMQ has no such time, and closes the channel. */
    send_text(f, "{\"body\": \"\", \"properties\": {\"expiration\": \"5184000000\"}}");
    assert_false(f->out.raw);
    assert_false(f->out.properties._flags & AMQP_BASIC_EXPIRATION_FLAG);
}

/* --- what AMQP's own form cannot carry --- */

static void assert_carried(struct fixture *f, const char *envelope, const char *why)
{
    struct err e = ERR_INIT;
    size_t len = strlen(envelope);

    assert_int_equal(amqp_envelope_to_message(&f->out, slice_make(envelope, len), 0, &f->pool, &e),
                     0);
    if (!f->out.raw || !strstr(e.text, why))
        fail_msg("%.80s: raw %d, \"%s\", wanted \"%s\"", envelope, f->out.raw, e.text, why);
    transmit(f);
    assert_property(of(f->in.properties->content_type), AMQP_RAW_TYPE);
    assert_string_equal(receive(f), envelope);
}

static void others_are_carried_as_they_are(void **state)
{
    static const struct {
        const char *envelope;
        const char *why;
    } rows[] = {
        {"", "not JSON"},
        {"no envelope", "not JSON"},
        {"[]", "no object at byte 0"},
        {"{}", "\"body\" is not a text"},
        {"{\"body\": 5}", "\"body\" is not a text"},
        {"{\"body\": \"%%%\", \"properties\": {\"body_encoding\": \"base64\"}}", "not base64"},
        {"{\"body\": \"\", \"properties\": {\"body_encoding\": \"hex\"}}", "\"body_encoding\""},
        {"{\"body\": \"\", \"properties\": {\"body_encoding\": 1}}", "\"body_encoding\""},
        {"{\"body\": \"\", \"properties\": []}", "\"properties\" must be an object"},
        {"{\"body\": \"\", \"headers\": []}", "\"headers\" must be an object"},
        {"{\"body\": \"\", \"headers\": 1}", "\"headers\" must be an object"},
        {"{\"body\": \"\", \"content-type\": 1}", "\"content-type\" is not a text"},
        {"{\"body\": \"\", \"content-encoding\": []}", "\"content-encoding\" is not a text"},
        {"{\"body\": \"\", \"properties\": {\"priority\": \"x\"}}", "\"priority\" is not a number"},
        {"{\"body\": \"\", \"properties\": {\"priority\": 1.5}}", "\"priority\" is not a number"},
        {"{\"body\": \"\", \"properties\": {\"expiration\": \"soon\"}}", "\"expiration\""},
        {"{\"body\": \"\", \"properties\": {\"reply_to\": {}}}", "\"reply_to\" is not a text"},
        {"{\"body\": \"\", \"headers\": {\"n\": 1e400}}", "not JSON"},
        {"{\"body\": \"\", \"celeriac_refused\": \"x\"}", "refused before"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_carried(f, rows[i].envelope, rows[i].why);
}

static void long_ones_are_carried_as_they_are(void **state)
{
    struct fixture *f = *state;
    char text[2100], word[300];
    struct buf large = BUF_INIT;
    struct slice id;

    memset(word, 'w', 299);
    word[299] = '\0';
    snprintf(text, sizeof(text), "{\"body\": \"\", \"properties\": {\"reply_to\": \"%s\"}}", word);
    assert_carried(f, text, "has 299 bytes, AMQP carries at most 255");
    snprintf(text, sizeof(text), "{\"body\": \"\", \"headers\": {\"id\": \"i\", \"%s\": 1}}", word);
    assert_carried(f, text, "longer than 255");
    assert_true(amqp_value_text(amqp_table_get(&f->in.properties->headers, "id"), &id));
    assert_property(id, "i");
    buf_adds(&large, "{\"body\": \"\", \"headers\": {\"id\": \"i\", \"long\": \"");
    while (large.len < 140000)
        buf_adds(&large, word);
    buf_adds(&large, "\"}}");
    assert_carried(f, buf_str(&large), "a frame holds 126956");
    buf_release(&large);
}

static void frame_of_the_connection_counts(void **state)
{
    static const char text[] = "{\"body\": \"\", \"headers\": {\"id\": \"0123456789\"}}";
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    size_t size;

    send_text(f, text);
    size = amqp_properties_size(&f->out.properties);
    CHECK_OK(amqp_envelope_to_message(&f->out, slice_of(text), size, &f->pool, &e));
    assert_false(f->out.raw);
    CHECK_OK(amqp_envelope_to_message(&f->out, slice_of(text), size - 1, &f->pool, &e));
    assert_true(f->out.raw);
}

/* --- what an envelope cannot express --- */

static void assert_poison(struct fixture *f, const char *why)
{
    struct err e = ERR_INIT;
    struct message m;

    receive(f);
    CHECK_ERR(message_parse(&m, buf_slice(&f->back), &e), ERR_DEADLETTER, why);
    message_release(&m);
}

static void set(struct fixture *f, const char *name, amqp_field_value_t value)
{
    f->properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    assert_int_equal(amqp_table_set(&f->properties.headers, name, value, &f->pool, NULL), 0);
}

static void bare_deliveries_are_poison_with_a_reason(void **state)
{
    struct fixture *f = *state;

    assert_poison(f, "\"content-type\" is missing");
    f->properties._flags |= AMQP_BASIC_CONTENT_TYPE_FLAG;
    f->properties.content_type = amqp_cstring_bytes("text/plain");
    assert_poison(f, "\"text/plain\" is not accepted");
    f->properties.content_type = amqp_cstring_bytes("application/json");
    f->in.body = slice_of("hello");
    assert_poison(f, "the body is not JSON");
    f->in.body = slice_of("[]");
    assert_poison(f, "\"task\" is missing");
    f->properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
    f->properties.reply_to = amqp_cstring_bytes("\xff");
    assert_poison(f, "\"reply_to\" has the wrong type");
}

static void inexpressible_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_F64};
    struct err e = ERR_INIT;
    struct message m;
    json_t *envelope, *again;
    char *first;

    v.value.f64 = HUGE_VAL;
    set(f, "id", amqp_value_of_text(slice_of("the-id")));
    set(f, "task", amqp_value_of_text(slice_of("the.task")));
    set(f, "bad", v);
    f->in.body = slice_of("bytes");
    assert_poison(f, "NaN or infinity");
    /* A FAILURE can be stored, and nothing is lost. */
    assert_int_equal(message_parse(&m, buf_slice(&f->back), &e), -1);
    assert_string_equal(m.id, "the-id");
    message_release(&m);
    envelope = parsed(&f->back);
    assert_string_equal(json_string_value(json_object_get(envelope, "body")), "Ynl0ZXM=");
    assert_true(json_string_length(json_object_get(envelope, "celeriac_table")) > 40);
    /* It stays what it is on every further way. */
    first = strdup(buf_str(&f->back));
    assert_non_null(first);
    send_text(f, first);
    assert_true(f->out.raw);
    transmit(f);
    assert_string_equal(receive(f), first);
    again = parsed(&f->back);
    assert_true(json_equal(envelope, again));
    json_decref(envelope);
    json_decref(again);
    free(first);
}

/* As deep as a frame allows: nothing of ours follows it down. */
static void bottomless_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    amqp_field_value_t v = {.kind = AMQP_FIELD_KIND_VOID};

    for (int depth = 0; depth < 26000; depth++) {
        amqp_field_value_t *one = amqp_pool_alloc(&f->pool, sizeof(*one));

        *one = v;
        v.kind = AMQP_FIELD_KIND_ARRAY;
        v.value.array = (amqp_array_t){1, one};
        if (depth == 100) {
            set(f, "deep", v);
            assert_poison(f, "nested deeper than 32");
            assert_null(strstr(buf_str(&f->back), "\"celeriac_table\": null"));
        }
    }
    set(f, "deep", v);
    assert_poison(f, "nested deeper than 32");
    assert_non_null(strstr(buf_str(&f->back), "\"celeriac_table\": null"));
}

/* The link did not decode them, so nothing but the body is known; their bytes stay to be seen. */
static void undecoded_headers_are_refused(void **state)
{
    struct fixture *f = *state;
    json_t *envelope;

    f->in.malformed = true;
    f->in.unread = slice_of("\x20\x01");
    f->in.body = slice_of("bytes");
    assert_poison(f, "nested too deep");
    envelope = parsed(&f->back);
    assert_string_equal(json_string_value(json_object_get(envelope, "body")), "Ynl0ZXM=");
    assert_string_equal(json_string_value(json_object_get(envelope, "celeriac_properties")),
                        "IAE=");
    json_decref(envelope);
}

static void names_that_are_no_text_are_refused(void **state)
{
    struct fixture *f = *state;

    set(f, "\xc3\x28", amqp_value_of_bool(true));
    assert_poison(f, "not UTF-8");
}

/* --- facts --- */

static void facts_of_an_empty_delivery(void **state)
{
    struct fixture *f = *state;
    struct amqp_facts facts;

    amqp_envelope_facts(&facts, &f->properties);
    assert_null(facts.id.ptr);
    assert_null(facts.reply_to.ptr);
    assert_false(facts.died || facts.again);
    assert_int_equal(facts.retries + facts.delivery_count, 0);
}

static void facts_are_read(void **state)
{
    struct fixture *f = *state;
    struct amqp_facts facts;

    send_text(f, "{\"body\": \"\", \"headers\": {\"id\": \"i\", \"task\": \"t\", \"retries\": 3, "
                 "\"celeriac_lost\": 2}, \"properties\": {\"reply_to\": \"r\", "
                 "\"correlation_id\": \"c\", \"priority\": 9}}");
    assert_int_equal(
        amqp_outgoing_header(&f->out, AMQP_H_AGAIN, amqp_value_of_bool(true), &f->pool, NULL), 0);
    transmit(f);
    amqp_envelope_facts(&facts, f->in.properties);
    assert_property(facts.id, "i");
    assert_property(facts.task, "t");
    assert_property(facts.reply_to, "r");
    assert_property(facts.correlation_id, "c");
    assert_int_equal(facts.retries, 3);
    assert_int_equal(facts.priority, 9);
    assert_true(facts.again);
    assert_false(facts.died);
}

/* As RabbitMQ 3.10 writes it. */
static void deaths_are_read(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    struct amqp_facts facts;
    json_t *headers = json_loads(
        "{\"x-delivery-count\": 4, \"x-death\": [{\"count\": 5, \"reason\": \"delivery_limit\", "
        "\"queue\": \"q1\"}, {\"count\": 1, \"reason\": \"expired\", \"queue\": \"q0\"}]}",
        0, NULL);

    CHECK_OK(amqp_table_from_json(&f->properties.headers, headers, &f->pool, &e));
    json_decref(headers);
    f->properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    amqp_envelope_facts(&facts, &f->properties);
    assert_true(facts.died);
    assert_property(facts.death_reason, "delivery_limit");
    assert_int_equal(facts.delivery_count, 4);
    set(f, "x-death", amqp_value_of_text(slice_of("no list")));
    amqp_envelope_facts(&facts, &f->properties);
    assert_false(facts.died);
}

static void facts_of_a_raw_one(void **state)
{
    struct fixture *f = *state;
    struct amqp_facts facts;

    assert_carried(f, "{\"headers\": {\"id\": \"i\", \"task\": \"t\", \"retries\": 2}}",
                   "\"body\"");
    amqp_envelope_facts(&facts, f->in.properties);
    assert_int_equal(facts.retries, 2); /* else a retry would be taken for the first attempt */
    assert_property(facts.id, "i");
    assert_property(facts.task, "t");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(captures_survive),
        TEST(properties_are_celerys),
        TEST(envelope_is_kombus),
        TEST(way_is_told_but_not_followed),
        TEST(bodies_are_bytes),
        TEST(servers_headers_are_not_sent),
        TEST(odd_numbers_are_made_to_fit),
        TEST(others_are_carried_as_they_are),
        TEST(long_ones_are_carried_as_they_are),
        TEST(frame_of_the_connection_counts),
        TEST(bare_deliveries_are_poison_with_a_reason),
        TEST(inexpressible_headers_are_refused),
        TEST(bottomless_headers_are_refused),
        TEST(undecoded_headers_are_refused),
        TEST(names_that_are_no_text_are_refused),
        TEST(facts_of_an_empty_delivery),
        TEST(facts_are_read),
        TEST(deaths_are_read),
        TEST(facts_of_a_raw_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
