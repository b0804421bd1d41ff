/* The call of a duplicate: its verdict is the success of the first job of its key, so that what
 * follows from a success (callbacks, the next step of a chain, its own document) follows here too.
 */
#include "broker/json_text.h"
#include "worker/call.h"

#include <string.h>

/* The value in a document of Celery's form; null when it is no success any more (somebody forgot
 * the result and stored another state under the id). */
static json_t *value_of(struct slice doc)
{
    json_t *parsed = NULL, *value = NULL;

    if (doc.ptr && result_is_success(doc))
        parsed = json_text_read(doc, "the result", NULL);
    value = json_incref(json_object_get(parsed, "result"));
    json_decref(parsed);
    return value ? value : json_null();
}

void call_repeat(struct call *call)
{
    if (!slice_is(call->run->first_id, call->base.id)) /* the same: its own finish was cut short */
        call->duplicate_of = strndup(call->run->first_id.ptr, call->run->first_id.len);
    call->base.fn->ok(&call->base, value_of(call->run->first));
}
