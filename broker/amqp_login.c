#include "broker/amqp_login.h"

#include "base/slice.h"

#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

#define CHANNELS_MAX 2047
#define LEN(table)   (sizeof(table) / sizeof((table)[0]))

static amqp_table_entry_t text_entry(const char *name, const char *text)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(text)}};
}

static amqp_table_entry_t true_entry(const char *name)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

/* What the server shows of us, and what it may send because we understand it. */
static amqp_rpc_reply_t greet(amqp_connection_state_t c, const struct amqp_address *a,
                              const char *name)
{
    amqp_table_entry_t capabilities[] = {
        true_entry("publisher_confirms"),         true_entry("consumer_cancel_notify"),
        true_entry("connection.blocked"),         true_entry("basic.nack"),
        true_entry("exchange_exchange_bindings"), true_entry("authentication_failure_close"),
    };
    amqp_table_entry_t entries[] = {
        text_entry("product", "Celeriac"),
        text_entry("version", CELERIAC_VERSION),
        text_entry("connection_name", name),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = LEN(capabilities), .entries = capabilities}}},
    };
    amqp_table_t properties = {.num_entries = LEN(entries), .entries = entries};

    return amqp_login_with_properties(c, a->vhost, CHANNELS_MAX, AMQP_DEFAULT_FRAME_SIZE,
                                      a->heartbeat_s, &properties, AMQP_SASL_METHOD_PLAIN, a->user,
                                      a->password);
}

/* The server said no, and why. */
static int refused(const amqp_method_t *m, const struct amqp_address *a, const char *shown,
                   struct err *e)
{
    const amqp_connection_close_t *close = m->decoded;
    struct slice text;

    if (m->id != AMQP_CONNECTION_CLOSE_METHOD)
        return err_set(e, ERR_RECONNECT, "%s: the server answered the login with %s", shown,
                       amqp_method_name(m->id));
    text = slice_make(close->reply_text.bytes, close->reply_text.len);
    if (close->reply_code == AMQP_ACCESS_REFUSED)
        return err_set(e, ERR_OPERATOR,
                       "%s: wrong password for \"%s\", or no such user: %.*s (403)", shown, a->user,
                       SLICE_ARG(text));
    if (close->reply_code == AMQP_NOT_ALLOWED)
        return err_set(e, ERR_OPERATOR,
                       "%s: user \"%s\" can not use the virtual host \"%s\": %.*s (530)", shown,
                       a->user, a->vhost, SLICE_ARG(text));
    return err_set(e, ERR_RECONNECT, "%s: the server closed the login: %.*s (%d)", shown,
                   SLICE_ARG(text), close->reply_code);
}

static int broke(int status, const char *shown, int timeout_ms, struct err *e)
{
    switch (status) {
    case AMQP_STATUS_BAD_AMQP_DATA:
    case AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION:
    case AMQP_STATUS_UNKNOWN_CLASS:
    case AMQP_STATUS_UNKNOWN_METHOD:
    case AMQP_STATUS_WRONG_METHOD:
    case AMQP_STATUS_UNEXPECTED_STATE:
        return err_set(e, ERR_OPERATOR,
                       "%s: the server there does not speak AMQP 0-9-1: check host and port",
                       shown);
    case AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD:
        return err_set(e, ERR_OPERATOR, "%s: the server takes no login with name and password",
                       shown);
    case AMQP_STATUS_TIMEOUT:
        return err_set(e, ERR_RECONNECT,
                       "%s: connected, but no answer to the AMQP greeting in %d ms: the server is "
                       "stopped, overloaded, or not RabbitMQ",
                       shown, timeout_ms);
    case AMQP_STATUS_NO_MEMORY:
        return err_nomem(e);
    default:
        return err_set(e, ERR_RECONNECT,
                       "%s: the server hung up during the login (%s); check the port: one for TLS "
                       "takes only amqps://",
                       shown, amqp_error_string2(status));
    }
}

static int judge(const amqp_rpc_reply_t *reply, const struct amqp_address *a, const char *shown,
                 int timeout_ms, struct err *e)
{
    if (reply->reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (reply->reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        return refused(&reply->reply, a, shown, e);
    return broke(reply->library_error, shown, timeout_ms, e);
}

static amqp_connection_state_t wrap_socket(int fd, int timeout_ms)
{
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = c ? amqp_tcp_socket_new(c) : NULL;

    if (!socket) {
        amqp_destroy_connection(c);
        close(fd);
        return NULL;
    }
    amqp_tcp_socket_set_sockfd(socket, fd);
    amqp_set_handshake_timeout(c, &limit);
    return c;
}

amqp_connection_state_t login_over(int fd, const struct amqp_address *a, const char *shown,
                                   const char *name, int timeout_ms, int *heartbeat_s,
                                   struct err *e)
{
    amqp_connection_state_t c = wrap_socket(fd, timeout_ms);
    amqp_rpc_reply_t reply;

    if (!c) {
        err_nomem(e);
        return NULL;
    }
    reply = greet(c, a, name);
    if (judge(&reply, a, shown, timeout_ms, e) < 0) {
        amqp_destroy_connection(c);
        return NULL;
    }
    *heartbeat_s = amqp_get_heartbeat(c);
    return c;
}
