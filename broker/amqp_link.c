#include "broker/amqp_link_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#define READ_SIZE (128u << 10)
#define READS     4          /* of one pump */
#define MESSAGES  256        /* of one pump: a flood does not starve the caller */
#define KEEP_OUT  (4u << 20) /* memory of a larger backlog is given back */
#define POOL_PAGE 8192

void link_break(struct amqp_link *l, const struct err *why)
{
    if (!l->broken)
        l->why = *why;
    l->broken = true;
}

/* --- what the server said of itself --- */

static int add_property(struct amqp_link *l, const char *prefix, amqp_bytes_t name,
                        struct slice value, struct err *e)
{
    struct link_property *more = realloc(l->properties, (l->properties_len + 1) * sizeof(*more));
    struct link_property p;

    if (!more)
        return err_nomem(e);
    l->properties = more;
    if (asprintf(&p.name, "%s%.*s", prefix, (int)name.len, (const char *)name.bytes) < 0)
        return err_nomem(e);
    p.value = strndup(value.ptr ? value.ptr : "", value.len);
    if (!p.value) {
        free(p.name);
        return err_nomem(e);
    }
    l->properties[l->properties_len++] = p;
    return 0;
}

/* Texts and booleans; of tables (capabilities) only the first level. */
static int copy_properties(struct amqp_link *l, const char *prefix, const amqp_table_t *table,
                           struct err *e)
{
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *entry = &table->entries[i];
        const amqp_field_value_t *v = &entry->value;
        struct slice text = slice_of(v->value.boolean ? "true" : "false");
        int status = 0;

        if (v->kind == AMQP_FIELD_KIND_UTF8)
            text = slice_make(v->value.bytes.bytes, v->value.bytes.len);
        if (v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BOOLEAN)
            status = add_property(l, prefix, entry->key, text, e);
        else if (v->kind == AMQP_FIELD_KIND_TABLE && !*prefix)
            status = copy_properties(l, "capabilities.", &v->value.table, e);
        if (status < 0)
            return -1;
    }
    return 0;
}

const char *link_server(const struct amqp_link *l, const char *property)
{
    for (size_t i = 0; i < l->properties_len; i++) {
        if (strcmp(l->properties[i].name, property) == 0)
            return l->properties[i].value;
    }
    return "";
}

/* --- life --- */

static void note_early_frame(struct amqp_link *l, const amqp_frame_t *frame)
{
    if (frame->frame_type == AMQP_FRAME_METHOD &&
        frame->payload.method.id == AMQP_CONNECTION_BLOCKED_METHOD) {
        l->blocked = true;
        l->tell_blocked = true;
    }
}

/* Takes over from the library: its heartbeats off, and nothing left in its buffer. */
static int drain_library(struct amqp_link *l, struct err *e)
{
    struct timeval now = {0, 0};
    amqp_frame_t frame;
    int status = AMQP_STATUS_OK;

    if (amqp_release_buffers_ok(l->connection))
        status = amqp_tune_connection(l->connection, amqp_get_channel_max(l->connection),
                                      amqp_get_frame_max(l->connection), 0);
    while (status == AMQP_STATUS_OK) {
        status = amqp_simple_wait_frame_noblock(l->connection, &frame, &now);
        if (status == AMQP_STATUS_OK)
            note_early_frame(l, &frame);
    }
    if (status != AMQP_STATUS_TIMEOUT || !amqp_release_buffers_ok(l->connection))
        return err_set(e, ERR_RECONNECT, "the connection broke right after the login (%s)",
                       amqp_error_string2(status));
    return 0;
}

static int start(struct amqp_link *l, struct err *e)
{
    amqp_table_t *server = amqp_get_server_properties(l->connection);

    l->frame_max = (uint32_t)amqp_get_frame_max(l->connection);
    if (l->frame_max < AMQP_FRAME_MIN_SIZE)
        return err_set(e, ERR_RECONNECT, "the server agreed to frames of only %u bytes",
                       l->frame_max);
    l->fd = amqp_get_sockfd(l->connection);
    if (l->fd < 0)
        return err_set(e, ERR_BUG, "the %s connection has no descriptor", l->name);
    if (server && copy_properties(l, "", server, e) < 0)
        return -1;
    return drain_library(l, e);
}

struct amqp_link *link_start(amqp_connection_state_t taken, int heartbeat_s, const char *name,
                             void *owner, const struct amqp_link_events *events,
                             const struct clock *clock, const struct log *log, struct err *e)
{
    struct amqp_link *l = calloc(1, sizeof(*l));

    if (!l) {
        amqp_destroy_connection(taken);
        err_nomem(e);
        return NULL;
    }
    *l = (struct amqp_link){.connection = taken,
                            .owner = owner,
                            .events = events,
                            .clock = clock,
                            .log = log,
                            .heartbeat_ms = (int64_t)heartbeat_s * 1000};
    snprintf(l->name, sizeof(l->name), "%s", name);
    init_amqp_pool(&l->pool, POOL_PAGE);
    l->sent_at_ms = l->read_at_ms = clock_mono_ms(clock);
    if (start(l, e) < 0) {
        link_close(l);
        return NULL;
    }
    l->up = true;
    return l;
}

static void free_channel(struct link_channel *ch)
{
    struct link_call *next;

    if (!ch)
        return;
    for (struct link_call *call = ch->first; call; call = next) {
        next = call->next;
        free(call);
    }
    confirms_release(&ch->confirms);
    content_release(&ch->content);
    free(ch);
}

static int add_goodbye(struct amqp_link *l)
{
    amqp_connection_close_t bye = {.reply_code = AMQP_REPLY_SUCCESS,
                                   .reply_text = amqp_cstring_bytes("goodbye")};

    return frames_add_method(&l->out, l->frame_max, 0, AMQP_CONNECTION_CLOSE_METHOD, &bye, NULL);
}

/* A goodbye only when it does not have to wait and does not cut into a frame that is half sent. */
static void say_goodbye(struct amqp_link *l)
{
    if (add_goodbye(l) == 0)
        (void)!send(l->fd, buf_slice(&l->out).ptr, l->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void link_close(struct amqp_link *l)
{
    if (!l)
        return;
    if (l->up && !l->leaving)
        say_goodbye(l);
    amqp_destroy_connection(l->connection);
    for (size_t i = 0; i < l->channels_len; i++)
        free_channel(l->channels[i]);
    free(l->channels);
    for (size_t i = 0; i < l->properties_len; i++) {
        free(l->properties[i].name);
        free(l->properties[i].value);
    }
    free(l->properties);
    empty_amqp_pool(&l->pool);
    buf_release(&l->out);
    buf_release(&l->in);
    free(l);
}

bool link_owes(const struct amqp_link *l)
{
    return l->up && l->acked && !l->leaving;
}

void link_leave(struct amqp_link *l)
{
    struct err e;

    if (!l->up || l->leaving)
        return;
    l->leaving = true;
    if (add_goodbye(l) < 0) {
        err_nomem(&e);
        link_break(l, &e);
    }
}

bool link_is_up(const struct amqp_link *l)
{
    return l->up;
}

bool link_is_blocked(const struct amqp_link *l)
{
    return l->blocked;
}

size_t link_backlog(const struct amqp_link *l)
{
    return l->out.len;
}

uint32_t link_frame_max(const struct amqp_link *l)
{
    return l->frame_max;
}

void link_poll_wants(const struct amqp_link *l, struct pollfd *fd)
{
    fd->fd = l->up ? l->fd : -1;
    fd->events = l->out.len ? POLLIN | POLLOUT : POLLIN;
    fd->revents = 0;
}

int64_t link_deadline(const struct amqp_link *l)
{
    int64_t send_ms = l->sent_at_ms + l->heartbeat_ms / 2;
    int64_t silence_ms = l->read_at_ms + l->heartbeat_ms * 2;

    if (!l->up)
        return CLOCK_NEVER;
    if (l->more || l->broken || l->tell_blocked)
        return clock_mono_ms(l->clock);
    if (!l->heartbeat_ms)
        return CLOCK_NEVER;
    return l->out.len || silence_ms < send_ms ? silence_ms : send_ms;
}

/* --- the socket --- */

/* True when something was read. *full: there may be more. */
static bool receive(struct amqp_link *l, bool *full)
{
    char *to = buf_reserve(&l->in, READ_SIZE);
    struct err e;
    ssize_t n;

    *full = false;
    if (!to) {
        err_nomem(&e);
        link_break(l, &e);
        return false;
    }
    n = recv(l->fd, to, READ_SIZE, MSG_DONTWAIT);
    if (n > 0) {
        buf_commit(&l->in, (size_t)n);
        *full = n == READ_SIZE;
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return false;
    if (n == 0)
        err_set(&e, ERR_RECONNECT, "the server closed the connection without a word");
    else
        err_sys(&e, ERR_RECONNECT, errno, "reading from the server failed");
    link_break(l, &e);
    return false;
}

static void read_input(struct amqp_link *l, bool ready)
{
    bool full = ready;

    l->budget = MESSAGES;
    if (l->in.len)
        link_take_frames(l);
    for (int i = 0; i < READS && full && !l->broken && l->budget > 0; i++) {
        if (!receive(l, &full))
            break;
        l->read_at_ms = clock_mono_ms(l->clock);
        link_take_frames(l);
    }
    l->more = l->budget <= 0;
}

/* The server may have said why before it hung up: what it sent is still to be read. */
static void send_failed(struct amqp_link *l, int error)
{
    struct err e;
    bool full;

    err_sys(&e, ERR_RECONNECT, error, "writing to the server failed");
    for (int i = 0; i < READS && !l->broken && receive(l, &full); i++) {
        l->budget = MESSAGES;
        link_take_frames(l);
    }
    link_break(l, &e);
}

static void send_output(struct amqp_link *l)
{
    ssize_t n;

    if (!l->out.len)
        return;
    n = send(l->fd, buf_slice(&l->out).ptr, l->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        buf_consume(&l->out, (size_t)n);
        l->sent_at_ms = clock_mono_ms(l->clock);
        if (!l->out.len && l->out.cap > KEEP_OUT)
            buf_release(&l->out);
    } else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        send_failed(l, errno);
    }
}

/* With a backlog no heartbeat is added: the bytes that wait say the same once they go. */
static void keep_alive(struct amqp_link *l)
{
    int64_t now = clock_mono_ms(l->clock);
    struct err e;

    if (!l->heartbeat_ms)
        return;
    if (!l->more && now - l->read_at_ms >= 2 * l->heartbeat_ms) {
        err_set(&e, ERR_RECONNECT, "no sign of life from the server for %lld s",
                (long long)(now - l->read_at_ms) / 1000);
        link_break(l, &e);
    } else if (!l->out.len && now - l->sent_at_ms >= l->heartbeat_ms / 2) {
        frames_add_heartbeat(&l->out, NULL);
    }
}

static void go_down(struct amqp_link *l)
{
    struct err why = l->why;

    /* The answer to the server's close, if it goes at once. */
    if (l->why_code && l->out.len)
        (void)!send(l->fd, buf_slice(&l->out).ptr, l->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    l->up = false;
    if (l->leaving)
        return;
    for (size_t i = 0; i < l->channels_len; i++) {
        if (l->channels[i])
            link_fail_calls(l, l->channels[i], l->why_code, l->why_method, &why);
    }
    if (l->events->on_down)
        l->events->on_down(l->owner, l, &why);
}

void link_flush(struct amqp_link *l)
{
    if (l->up && !l->broken)
        send_output(l);
}

static void pump(struct amqp_link *l, bool ready)
{
    if (!l->up)
        return;
    if (l->tell_blocked && l->events->on_blocked)
        l->events->on_blocked(l->owner, l, true, slice_of(""));
    l->tell_blocked = false;
    read_input(l, ready);
    if (!l->broken)
        keep_alive(l);
    if (!l->broken)
        send_output(l);
    if (l->broken)
        go_down(l);
}

void link_pump(struct amqp_link *l)
{
    pump(l, true);
}

void link_pump_unread(struct amqp_link *l)
{
    pump(l, false);
}
