/*
 * message_parts.h - what the files of the message decoder share; nobody else includes it.
 *
 * Model: message_parse.c reads the envelope, message_skim.c one of the common form,
 * message_fields.c checks and stores headers and properties from a table, message_body.c decodes
 * the body. Errors are ERR_DEADLETTER with a text that names the field. Fork rule: none.
 */
#ifndef BROKER_MESSAGE_PARTS_H
#define BROKER_MESSAGE_PARTS_H

#include "broker/message.h"

/* Bytes of a task's name or id: they become parts of keys. */
#define MESSAGE_NAME_MAX 1024

#define MESSAGE_KIND(type) (1u << (type))
#define MESSAGE_NOWHERE    SIZE_MAX

/* What a header or property may be, and where it is kept. Null always means absent. */
struct message_field {
    const char *name;
    unsigned kinds; /* MESSAGE_KIND of each JSON type */
    size_t at;      /* of a const char * or an int64_t in struct message, or MESSAGE_NOWHERE */
    int64_t min;    /* for integers */
    int64_t max;
};

/* Number of the field of that name in its table, or -1; *field is its row. */
int message_header_field(struct slice name, const struct message_field **field);
int message_property_field(struct slice name, const struct message_field **field);

/* What follows from the headers that were stored: times, absent ids, names that must be there. */
int message_complete_headers(struct message *m, struct err *e);

/* A property "priority" of that size, as kombu understands it. */
int message_clamp_priority(int64_t priority);

/* The longest envelope that is read at all. */
#define MESSAGE_ENVELOPE_MAX (MESSAGE_BODY_MAX / 3 * 4 + 4 * 1024 * 1024)

/* Reads m->headers, all of them, checking kind and range. */
int message_read_headers(struct message *m, struct err *e);

/* Reads m->properties. */
int message_read_properties(struct message *m, struct err *e);

/* A member that must be a string without NUL; NULL with an error naming "where.name". */
const char *message_need_string(const json_t *object, const char *where, const char *name,
                                struct err *e);

/* Decodes base64, inflates and parses the body. A new reference, or NULL. */
json_t *message_decode_body(const struct message *m, struct err *e);

/* Sets args, kwargs, embed (and the protocol) from a decoded body: an array of three, or a map. */
int message_split_body(struct message *m, json_t *body, struct err *e);

/* "a string", for an error text. */
const char *message_kind_word(const json_t *value);

#endif
