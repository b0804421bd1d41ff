#include "app/etl.h"

#include <stdio.h>
#include <stdlib.h>

#include "tasks/etl_canon.h"
#include "tasks/etl_source.h"

#define CHUNK_LEN ((uint64_t)4 * 1024 * 1024)

static const struct opt_row rows[] = {
    {.name = "format",
     .kind = OPT_CHOICE,
     .flags = OPT_LINE_ONLY,
     .arg = "FORMAT",
     .choices = "common|combined|vhost_combined|combined_timed",
     .help = "Read the logs as this format instead of choosing one by majority."},
    {.name = "spool",
     .kind = OPT_TEXT,
     .flags = OPT_FILE_ARG,
     .arg = "FOLDER",
     .help =
         "Unpack packed logs in this folder, and leave them there; default: a file in TMPDIR that "
         "has no name and is gone at the end."},
    {.name = NULL},
};

static int print_chunk(const struct etl_source *source, const struct etl_format *format,
                       const struct etl_cut *cut, uint64_t *line, struct etl_err *err)
{
    struct etl_chunk_data data;
    struct etl_batch batch;
    int rc;

    if (etl_chunk_read(&data, source->data_path, cut, err) != 0)
        return -1;
    rc = etl_batch_read(&batch, format, data.bytes, cut->begin, err);
    if (rc == 0) {
        etl_canon_batch(stdout, &batch, *line);
        *line += batch.records_len;
        etl_batch_release(&batch);
    }
    etl_chunk_release(&data);
    return rc;
}

static int print_log(const struct etl_source *source, const char *format_name, struct etl_err *err)
{
    const struct etl_format *format;
    struct etl_cut cut = {0, 0, 0, 0};
    uint64_t line = 1;
    int rc;

    if (format_name != NULL)
        format = etl_format_named(format_name);
    else if (etl_source_format(source, &format, err) != 0)
        return -1;
    etl_canon_format(stdout, format);
    while ((rc = etl_source_cut(source, cut.end, CHUNK_LEN, &cut, err)) == 1)
        if (print_chunk(source, format, &cut, &line, err) != 0)
            return -1;
    return rc;
}

static int run_parse(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    struct etl_source source;
    struct etl_err err;
    int status = EXITCODE_OK;

    for (int i = 0; i < argc && status == EXITCODE_OK; i++) {
        if (etl_source_open(&source, argv[i], opt_text(v, "spool"), &err) != 0) {
            status = etl_fail(ctx, &err);
            break;
        }
        if (print_log(&source, opt_text(v, "format"), &err) != 0)
            status = etl_fail(ctx, &err);
        etl_source_close(&source);
    }
    return status;
}

const struct command command_etl_parse = {
    .name = "parse",
    .summary = "Print what would be loaded, one JSON object a line.",
    .positional = "LOG...",
    .details = "The output is exact to the byte: text is bytes, and a byte that is not printable "
               "ASCII is written \\u00NN. Nothing is stored and no broker is needed.",
    .examples = "celeriac etl parse /var/log/nginx/access.log | head",
    .opts = {rows},
    .args_min = 1,
    .args_max = -1,
    .run = run_parse,
};
