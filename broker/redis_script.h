/*
 * redis_script.h - the Lua scripts: every step that must not be torn apart.
 *
 * Purpose: Redis runs a script alone, so what one script does becomes visible at once or not at
 * all. Model: a script takes a whole batch, names every key it touches in KEYS (but for fetch,
 * which says why), gets the time from the caller, and never decodes JSON: an element of a queue is
 * text to be moved. A script is sent as text the first time that a connection needs it, then called
 * by digest, and loaded again when the server says NOSCRIPT.
 *
 * Invariants the scripts keep (numbers are quoted in redis_script.c):
 *  S1. A message leaves a queue in the same step that records it in `unacked` and `unacked_index`;
 *      where it can not be recorded (a key of a wrong type) it stays, or goes back to its place.
 *  S2. The recorded value is `[` element `,"","queue"]`: what kombu writes, so that a Python worker
 *      restores it; cutting the known tail gives the element back byte for byte.
 *  S3. "The field is still in `unacked`" is the fence: finish, bury and move test it first and
 *      change nothing when it is gone.
 *  S4. A finish that holds does everything: field and score removed, counters, result stored and
 *      then published, follow-ups pushed. HDEL is the first write, so that a server out of memory
 *      (which refuses the first growing write of a script) still lets jobs end and memory go.
 *  S5. A stored SUCCESS is never overwritten; finish then drops result and follow-ups and counts
 *      `succeeded` and `duplicates`.
 *  S6. A token is set before its message is pushed and taken back when the push failed; push has
 *      one token for all its messages, and those of one list are pushed together or not at all.
 *      Should only some lists have refused theirs, the token tells which and why, for a resend.
 *      Messages that were never sent before need no look at their token: MULTI, an LPUSH for each
 *      list, SET, HINCRBY, EXEC, without Lua, to lists that took messages on this connection
 *      before; should one be something else by now, take_back undoes the rest. One that goes alone has no SET: the field of `celeriac:sent`
 *      that it raises tells whether it was pushed, and sent sets the token then (redis_tally.h).
 *  S7. Counters change in the step that moves the message, so that published, with all fields of
 *      `celeriac:sent`, = succeeded + failed + dead + waiting + delayed + leased holds between any
 *      two steps.
 *  S8. A delayed message is in `celeriac:delayed`, in its queue's own index and in
 *      `celeriac:delayed:messages`, or in none of them.
 *  S9. SELECT to the result database is undone before anything of the broker's is touched.
 * S10. A dedup key's value is `h<bytes of field>:<field><id>`, held by that delivery while the
 *      field is in `unacked`; `k<id>`, kept for the retry of that job; or `d<id>`, done by it. Each
 *      has an expiry; that of `k` and `d` is their meaning, that of `h` only lets go of what nobody
 *      asks for, and begins anew with every question.
 * S11. Only the delivery in an `h` settles it, in the script that removes its field (S3, S4).
 * S12. Messages that are leased in bulk are in a list of their own, `celeriac:bulk:<name>`, in the
 *      order of their fences, and the field <name> of `celeriac:bulk` is "marks fence score tail":
 *      for each a `-`, or an `x` when it has ended, in the order of their fences, the first fence,
 *      with a minus when the list is as it was pushed, which is the other way round, when they were
 *      leased, the tail of S2. The name is a field of S3 with a number of its own in place of the
 * fence. There is a list if and only if there is its field with a `-`. A mark is the fence of S3
 * for usual ends; whatever else is done with one of them, unbulk comes first and makes those that
 *      have not ended leases of their own (S1). Nothing of a message passes through Lua then, which
 *      hashes each text from end to end and copies it six times: half of what a job costs.
 *
 * Fork rule: constant data.
 */
#ifndef BROKER_REDIS_SCRIPT_H
#define BROKER_REDIS_SCRIPT_H

enum redis_script_id {
    REDIS_SCRIPT_PUBLISH,
    REDIS_SCRIPT_PUSH,
    REDIS_SCRIPT_TAKE_BACK,
    REDIS_SCRIPT_SENT,
    REDIS_SCRIPT_SENT_SWEEP,
    REDIS_SCRIPT_FETCH,
    REDIS_SCRIPT_FINISH,
    REDIS_SCRIPT_FINISH_BULK,
    REDIS_SCRIPT_UNBULK,
    REDIS_SCRIPT_NOTE,
    REDIS_SCRIPT_RENEW,
    REDIS_SCRIPT_BURY,
    REDIS_SCRIPT_MOVE,
    REDIS_SCRIPT_SWEEP,
    REDIS_SCRIPT_DUE,
    REDIS_SCRIPT_CLAIM,
    REDIS_SCRIPT_STORE,
    REDIS_SCRIPT_GET,
    REDIS_SCRIPT_FORGET,
    REDIS_SCRIPT_TOTALS,
    REDIS_SCRIPT_QUEUES,
    REDIS_SCRIPT_PEEK,
    REDIS_SCRIPT_PURGE,
    REDIS_SCRIPT_DROP,
    REDIS_SCRIPT_DEAD,
    REDIS_SCRIPT_EXHUME,
    REDIS_SCRIPT_UNBURY,
    REDIS_SCRIPTS,
    REDIS_PLAIN = REDIS_SCRIPTS, /* a request that is an ordinary command */
    REDIS_RAW                    /* or several commands in their wire form */
};

#define REDIS_SHA_SIZE 41

const char *redis_script_text(enum redis_script_id id);

/* Digest of the text in lower-case hexadecimal, as the server computes it. */
void redis_script_sha(enum redis_script_id id, char out[REDIS_SHA_SIZE]);

#endif
