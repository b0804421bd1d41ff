#include "base/analyzer.h"
#include "broker/amqp_link_parts.h"

#include <stdlib.h>

struct link_channel *link_channel(const struct amqp_link *l, int number)
{
    return number > 0 && (size_t)number <= l->channels_len ? l->channels[number - 1] : NULL;
}

static int is_down(const struct amqp_link *l, struct err *e)
{
    return err_set(e, ERR_RECONNECT, "the %s connection is down: %s", l->name,
                   l->why.text[0] ? l->why.text : "closed");
}

/* The open channel, or NULL with the error. */
static struct link_channel *open_channel(const struct amqp_link *l, int number, struct err *e)
{
    struct link_channel *ch = link_channel(l, number);

    if (!l->up || l->leaving)
        is_down(l, e);
    else if (!ch || ch->phase != CHANNEL_OPEN)
        err_set(e, ERR_REFUSED, "channel %d of the %s connection is not open", number, l->name);
    else
        return ch;
    return NULL;
}

static int grow_channels(struct amqp_link *l, int number, struct err *e)
{
    struct link_channel **more;

    if (number < 1 || number > LINK_CHANNELS)
        return err_set(e, ERR_BUG, "channel number %d", number);
    if ((size_t)number <= l->channels_len)
        return 0;
    more = realloc(l->channels, (size_t)number * sizeof(struct link_channel *));
    if (!more)
        return err_nomem(e);
    l->channels = more;
    while (l->channels_len < (size_t)number)
        l->channels[l->channels_len++] = NULL;
    return 0;
}

static struct link_channel *find_or_make(struct amqp_link *l, int number, struct err *e)
{
    struct link_channel *ch = link_channel(l, number);

    if (ch || grow_channels(l, number, e) < 0)
        return ch;
    ch = calloc(1, sizeof(*ch));
    if (!ch) {
        err_nomem(e);
        return NULL;
    }
    ch->number = number;
    l->channels[number - 1] = ch;
    return ch;
}

static void push_call(struct link_channel *ch, struct link_call *call)
{
    if (ch->last)
        ch->last->next = call;
    else
        ch->first = call;
    ch->last = call;
}

static struct link_call *pop_call(struct link_channel *ch)
{
    struct link_call *call = ch->first;

    if (call) {
        ch->first = call->next;
        if (!ch->first)
            ch->last = NULL;
    }
    return call;
}

static int write_call(struct amqp_link *l, struct link_channel *ch, const struct link_call *asked,
                      const void *decoded, struct err *e)
{
    struct link_call *call = malloc(sizeof(*call));

    if (!call)
        return err_nomem(e);
    *call = *asked;
    if (frames_add_method(&l->out, l->frame_max, ch->number, call->id, decoded, e) < 0) {
        free(call);
        return -1;
    }
    push_call(ch, call);
    return 0;
}

/* The channel holds the call. */
ANALYZER_LOSES_SIGHT
int link_open_channel(struct amqp_link *l, int channel, struct err *e)
{
    static const amqp_channel_open_t open = {{0, NULL}};
    static const struct link_call asked = {.id = AMQP_CHANNEL_OPEN_METHOD};
    struct link_channel *ch;

    if (!l->up || l->leaving)
        return is_down(l, e);
    ch = find_or_make(l, channel, e);
    if (!ch)
        return -1;
    if (ch->phase != CHANNEL_CLOSED)
        return err_set(e, ERR_BUG, "channel %d of the %s connection is open already", channel,
                       l->name);
    if (write_call(l, ch, &asked, &open, e) < 0)
        return -1;
    ch->phase = CHANNEL_OPEN;
    return 0;
}

int link_call(struct amqp_link *l, int channel, amqp_method_number_t id, const void *decoded,
              amqp_answered_fn *answered, void *context, uint64_t number, struct err *e)
{
    struct link_channel *ch = open_channel(l, channel, e);
    struct link_call asked = {.id = id, .answered = answered, .context = context, .number = number};

    if (!ch || write_call(l, ch, &asked, decoded, e) < 0)
        return -1;
    if (id == AMQP_CHANNEL_CLOSE_METHOD)
        ch->phase = CHANNEL_CLOSING;
    return 0;
}

ANALYZER_SEES_AGAIN

int link_tell(struct amqp_link *l, int channel, amqp_method_number_t id, const void *decoded,
              struct err *e)
{
    struct link_channel *ch = open_channel(l, channel, e);

    return ch ? frames_add_method(&l->out, l->frame_max, channel, id, decoded, e) : -1;
}

int link_ack(struct amqp_link *l, int channel, uint64_t delivery_tag, bool multiple, struct err *e)
{
    amqp_basic_ack_t ack = {.delivery_tag = delivery_tag, .multiple = multiple};

    if (link_tell(l, channel, AMQP_BASIC_ACK_METHOD, &ack, e) != 0)
        return -1;
    l->acked = true;
    return 0;
}

int link_confirm_select(struct amqp_link *l, int channel, struct err *e)
{
    amqp_confirm_select_t select = {.nowait = 0};
    struct link_channel *ch = open_channel(l, channel, e);

    if (!ch || link_call(l, channel, AMQP_CONFIRM_SELECT_METHOD, &select, NULL, NULL, 0, e) < 0)
        return -1;
    if (!ch->confirms.on)
        confirms_start(&ch->confirms);
    return 0;
}

uint32_t link_print(struct slice exchange, struct slice routing_key,
                    const amqp_basic_properties_t *p, size_t body_len)
{
    uint32_t print = confirms_print(0, exchange);

    print = confirms_print(print, routing_key);
    if (p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
        print = confirms_print(print, slice_make(p->message_id.bytes, p->message_id.len));
    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        print = confirms_print(print, slice_make(p->correlation_id.bytes, p->correlation_id.len));
    return confirms_print(print, slice_make(&body_len, sizeof(body_len)));
}

int link_publish(struct amqp_link *l, int channel, struct slice exchange, struct slice routing_key,
                 bool mandatory, const amqp_basic_properties_t *properties, struct slice body,
                 uint64_t *sequence, struct err *e)
{
    struct link_channel *ch = open_channel(l, channel, e);
    amqp_basic_publish_t publish = {.exchange = amqp_bytes_of(exchange),
                                    .routing_key = amqp_bytes_of(routing_key),
                                    .mandatory = mandatory};
    uint64_t number = 0;

    if (!ch || (ch->confirms.on && confirms_reserve(&ch->confirms, e) < 0) ||
        frames_add_message(&l->out, l->frame_max, channel, &publish, properties, body, e) < 0)
        return -1;
    if (ch->confirms.on)
        number = confirms_add(
            &ch->confirms, mandatory ? link_print(exchange, routing_key, properties, body.len) : 0);
    if (sequence)
        *sequence = number;
    return 0;
}

/* --- answers --- */

enum err_code link_code(int reply_code)
{
    static const struct {
        int reply_code;
        enum err_code code;
    } codes[] = {
        {404, ERR_NOTFOUND},  {403, ERR_OPERATOR}, {530, ERR_OPERATOR},
        {405, ERR_REFUSED},   {406, ERR_REFUSED},  {311, ERR_DEADLETTER},
        {320, ERR_RECONNECT}, {506, ERR_AGAIN},    {541, ERR_AGAIN},
    };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].reply_code == reply_code)
            return codes[i].code;
    }
    return ERR_REFUSED;
}

static void answer_call(struct amqp_link *l, struct link_call *call,
                        const struct amqp_answer *answer)
{
    if (call->answered)
        call->answered(l->owner, call->context, call->number, answer);
    free(call);
}

void link_answer(struct amqp_link *l, struct link_channel *ch, const struct amqp_answer *answer)
{
    answer_call(l, pop_call(ch), answer);
}

void link_fail_calls(struct amqp_link *l, struct link_channel *ch, int code,
                     amqp_method_number_t culprit, const struct err *why)
{
    struct link_call *call = ch->first, *next;
    bool blame = code != 0;
    struct err other = *why;

    /* Off the channel first: a callback may open it again and call anew. */
    ch->first = NULL;
    ch->last = NULL;
    if (other.code != ERR_RECONNECT)
        other.code = ERR_AGAIN;
    for (; call; call = next) {
        bool guilty = blame && call->id == culprit;
        struct amqp_answer answer = {.code = guilty ? code : 0, .why = guilty ? why : &other};

        next = call->next;
        answer_call(l, call, &answer);
        blame = blame && !guilty; /* the first of its kind */
    }
}
