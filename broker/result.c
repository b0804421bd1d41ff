#include "broker/result.h"

#include "base/isotime.h"
#include "broker/json_text.h"

struct writer {
    struct buf *out;
    struct err *e;
    bool failed;
};

static void put_text(struct writer *w, const char *key, const char *text)
{
    buf_adds(w->out, key);
    if (!text)
        buf_adds(w->out, "null");
    else if (json_text_string(w->out, slice_of(text), w->e) < 0)
        w->failed = true;
}

static void put_value(struct writer *w, const char *key, const json_t *value)
{
    buf_adds(w->out, key);
    if (json_text_value(w->out, value, w->e) < 0)
        w->failed = true;
}

static void put_children(struct writer *w, const struct result_doc *doc)
{
    if (doc->children)
        put_value(w, ", \"children\": ", doc->children);
    else
        buf_adds(w->out, doc->no_children ? ", \"children\": null" : ", \"children\": []");
}

/* Negative: not known. */
static void put_number(struct writer *w, const char *key, int64_t value)
{
    if (value < 0)
        return;
    buf_adds(w->out, key);
    buf_addi(w->out, value);
}

/* What Celery does not record; its readers ignore the key. */
static void put_ours(struct writer *w, const struct result_doc *doc)
{
    const struct result_times *t = doc->times;

    put_text(w, ", \"celeriac\": {\"worker\": ", doc->worker);
    if (doc->pid)
        put_number(w, ", \"pid\": ", doc->pid);
    if (t) {
        put_number(w, ", \"queued_us\": ", t->queued_us);
        put_number(w, ", \"fetched_us\": ", t->fetched_us);
        put_number(w, ", \"dispatched_us\": ", t->dispatched_us);
        put_number(w, ", \"run_us\": ", t->run_us);
        put_number(w, ", \"user_us\": ", t->user_us);
        put_number(w, ", \"system_us\": ", t->system_us);
        put_number(w, ", \"voluntary_switches\": ", t->voluntary_switches);
        put_number(w, ", \"involuntary_switches\": ", t->involuntary_switches);
        put_number(w, ", \"max_rss_kib\": ", t->max_rss_kib);
    }
    buf_adds(w->out, "}");
}

static void put_duplicate(struct writer *w, const struct result_doc *doc)
{
    put_text(w, ", \"celeriac\": {\"duplicate_of\": ", doc->duplicate_of);
    buf_adds(w->out, "}");
}

int result_encode(struct buf *out, const struct result_doc *doc, struct err *e)
{
    struct writer w = {out, e, false};
    size_t before = out->len;
    char date[ISOTIME_SIZE];

    if (doc->date_done_us)
        isotime_format_us(doc->date_done_us, date);
    put_text(&w, "{\"status\": ", doc->status);
    put_value(&w, ", \"result\": ", doc->result);
    put_text(&w, ", \"traceback\": ", doc->traceback);
    put_children(&w, doc);
    put_text(&w, ", \"date_done\": ", doc->date_done_us ? date : NULL);
    if (doc->group_id)
        put_text(&w, ", \"group_id\": ", doc->group_id);
    if (doc->parent_id)
        put_text(&w, ", \"parent_id\": ", doc->parent_id);
    if (doc->duplicate_of)
        put_duplicate(&w, doc);
    else if (doc->worker)
        put_ours(&w, doc);
    put_text(&w, ", \"task_id\": ", doc->task_id);
    buf_adds(out, "}");
    if (out->failed)
        return err_nomem(e);
    if (w.failed) {
        out->len = before;
        return err_wrap(e, "the result of %s can not be stored",
                        doc->task_id ? doc->task_id : "a job");
    }
    return 0;
}

json_t *result_exception(const char *type, const char *module, json_t *messages)
{
    json_t *list = json_is_array(messages) ? messages : json_array();

    if (list != messages && messages && json_array_append_new(list, messages) < 0) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:s}", "exc_type", type, "exc_message", list, "exc_module",
                     module ? module : "builtins");
}

static size_t skip_spaces(struct slice text, size_t at)
{
    while (at < text.len && strchr(" \t\r\n", text.ptr[at]) && text.ptr[at])
        at++;
    return at;
}

/* Steps over a literal and the spaces in front of it; 0 when something else is there. */
static size_t expect(struct slice text, size_t at, const char *literal)
{
    size_t len = strlen(literal);

    at = skip_spaces(text, at);
    return at + len <= text.len && memcmp(text.ptr + at, literal, len) == 0 ? at + len : 0;
}

/* The status when it is the first member and plain. */
static bool status_in_front(struct slice doc, struct slice *status)
{
    size_t at = expect(doc, 0, "{"), end;

    at = at ? expect(doc, at, "\"status\"") : 0;
    at = at ? expect(doc, at, ":") : 0;
    at = at ? expect(doc, at, "\"") : 0;
    if (!at)
        return false;
    for (end = at; end < doc.len && doc.ptr[end] != '"'; end++) {
        if (doc.ptr[end] == '\\')
            return false;
    }
    *status = slice_make(doc.ptr + at, end - at);
    return end < doc.len;
}

static bool status_is_one_of(struct slice doc, const char *const *words, size_t n)
{
    struct slice status;
    json_t *parsed = NULL;
    bool found = false;

    if (!status_in_front(doc, &status)) {
        parsed = json_text_read(doc, "the result", NULL);
        status = slice_of(json_string_value(json_object_get(parsed, "status")));
    }
    for (size_t i = 0; i < n && !found; i++)
        found = slice_is(status, words[i]);
    json_decref(parsed);
    return found;
}

bool result_is_ready(struct slice doc)
{
    static const char *const ready[] = {"SUCCESS", "FAILURE", "REVOKED"};

    return status_is_one_of(doc, ready, sizeof(ready) / sizeof(ready[0]));
}

bool result_is_success(struct slice doc)
{
    static const char *const success[] = {"SUCCESS"};

    return status_is_one_of(doc, success, 1);
}
