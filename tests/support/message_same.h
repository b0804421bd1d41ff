/* message_same.h - are two messages that were read in two ways the same? */
#ifndef TESTS_MESSAGE_SAME_H
#define TESTS_MESSAGE_SAME_H

#include "broker/message.h"

/* Reads text with message_parse and message_skim and compares what both say, their bodies
 * included: NULL, or the name of the first difference. *skimmed (may be NULL): message_skim read it
 * from the text alone. */
const char *message_same(struct slice text, bool *skimmed);

#endif
