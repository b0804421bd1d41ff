/*
 * bench_ledger [RECORDS]: what the claim ledger and the index cost without a broker.
 *
 * RECORDS (1,000,000) well-formed records are made first; then the time of applying them is taken:
 * claims of as many keys; claims and dones in turn; dones that carry a result; records of keys that
 * expire as others come; ends of runs for the index. One JSON line per case.
 */
#include "base/clock.h"
#include "broker/amqp_index.h"
#include "broker/amqp_ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BEGIN_MS 1795225702848

struct log_case {
    const char *name;
    int records_per_key; /* 1: claim; 2: claim and done */
    int64_t window_ms;   /* of done */
    int64_t step_us;     /* log time between records */
    size_t doc_len;
};

static const struct log_case cases[] = {
    {"claims", 1, 0, 36, 0},
    {"claims and dones", 2, 3600000, 36, 0},
    {"claims and dones with 300 bytes", 2, 3600000, 36, 300},
    {"claims and dones that expire", 2, 5000, 1000, 0},
};

static void die(const char *what)
{
    fprintf(stderr, "bench_ledger: %s\n", what);
    exit(1);
}

static struct slice make_id(char id[40], int n)
{
    uint64_t h = ((uint64_t)n + 1) * 0x9e3779b97f4a7c15u;

    snprintf(id, 40, "%08x-%04x-4000-8000-%012" PRIx64, (unsigned)h, (unsigned)(h >> 32) & 0xffff,
             (h >> 16) & 0xffffffffffffu);
    return slice_make(id, 36);
}

/* The log in one piece; ends[i] is where record i ends. */
static void make_log(const struct log_case *c, int records, struct buf *log, size_t *ends)
{
    static const char doc[1024];
    char id[40];

    for (int i = 0; i < records; i++) {
        bool done = c->records_per_key == 2 && i % 2 == 1;
        struct amqp_claim_record r = {.kind = done ? AMQP_CLAIM_DONE : AMQP_CLAIM,
                                      .prev = done ? i - 1 : AMQP_RECORD_NONE,
                                      .window_ms = c->window_ms,
                                      .now_ms = BEGIN_MS + i * c->step_us / 1000,
                                      .host = 1,
                                      .nonce = (uint64_t)i,
                                      .id = make_id(id, i / c->records_per_key)};

        r.key = amqp_key_of(r.id);
        r.doc = done ? slice_make(doc, c->doc_len) : slice_make(NULL, 0);
        amqp_claim_write(log, &r);
        ends[i] = log->len;
    }
    if (log->failed)
        die("out of memory");
}

static void run_case(const struct log_case *c, int records)
{
    struct amqp_ledger *l =
        amqp_ledger_new(&(struct amqp_ledger_config){.host = 2, .docs_max = (size_t)1 << 30});
    size_t *ends = malloc((size_t)records * sizeof(*ends));
    struct amqp_ledger_decision d;
    struct amqp_ledger_stats stats;
    struct buf log = BUF_INIT;
    int64_t begin_ns;
    double ns;
    struct err e;

    if (!l || !ends)
        die("out of memory");
    make_log(c, records, &log, ends);
    begin_ns = clock_nano();
    for (int i = 0; i < records; i++) {
        size_t from = i ? ends[i - 1] : 0;

        if (amqp_ledger_apply(l, i, slice_make(buf_slice(&log).ptr + from, ends[i] - from), 0, &d,
                              &e) != 0)
            die(e.text);
    }
    ns = (double)(clock_nano() - begin_ns);
    amqp_ledger_stats(l, &stats);
    printf("{\"case\": \"%s\", \"records\": %d, \"ns_per_record\": %.0f, \"keys\": %zu, "
           "\"bytes_per_key\": %.0f, \"docs\": %zu, \"won\": %" PRIu64 ", \"done\": %" PRIu64 "}\n",
           c->name, records, ns / records, stats.keys, (double)stats.bytes / (double)stats.keys,
           stats.docs, stats.won, stats.done);
    amqp_ledger_free(l);
    buf_release(&log);
    free(ends);
}

static void run_index(int records)
{
    struct amqp_index *x = amqp_index_new(&(struct amqp_index_config){0});
    char(*ids)[40] = malloc((size_t)records * sizeof(*ids));
    int64_t begin_ns;
    bool counted;
    struct err e;

    if (!x || !ids)
        die("out of memory");
    for (int i = 0; i < records; i++)
        make_id(ids[i], i);
    begin_ns = clock_nano();
    for (int i = 0; i < records; i++) {
        struct amqp_result_record r = {.outcome = AMQP_RESULT_SUCCEEDED,
                                       .now_ms = BEGIN_MS + i / 28,
                                       .id = slice_make(ids[i], 36)};

        if (amqp_index_apply(x, i, &r, &counted, &e) != 0)
            die(e.text);
    }
    printf("{\"case\": \"index\", \"records\": %d, \"ns_per_record\": %.0f, \"keys\": %zu}\n",
           records, (double)(clock_nano() - begin_ns) / records, amqp_index_len(x));
    amqp_index_free(x);
    free(ids);
}

int main(int argc, char **argv)
{
    int records = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1000000;

    if (records < 2)
        die("usage: bench_ledger [RECORDS]");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        run_case(&cases[i], records);
    run_index(records);
    return 0;
}
