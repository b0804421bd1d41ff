#include "app/cmd_help.h"

#include "app/command.h"
#include "app/select.h"
#include "base/opt_help.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const struct opt_row rows[] = {
    {.name = "man",
     .kind = OPT_TEXT,
     .flags = OPT_LINE_ONLY | OPT_HIDDEN,
     .arg = "DIRECTORY",
     .help = "Write the man pages into this directory."},
    {.name = "completion",
     .kind = OPT_FLAG,
     .flags = OPT_LINE_ONLY,
     .help = "Print the completion script for bash."},
    {.name = NULL},
};

static int terminal_columns(void)
{
    struct winsize size;
    const char *text = getenv("COLUMNS");
    long columns = text ? strtol(text, NULL, 10) : 0;

    if (columns <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        columns = size.ws_col;
    if (columns <= 0)
        columns = 80;
    return columns < 50 ? 50 : (columns > 110 ? 110 : (int)columns);
}

int help_show(FILE *to, const struct command *command, const char *path)
{
    struct buf text = BUF_INIT;

    command_help(&text, command, path, terminal_columns());
    fputs(buf_str(&text), to);
    buf_release(&text);
    return to == stdout ? EXITCODE_OK : EXITCODE_USAGE;
}

/* Builds that want to be reproducible say what time it is. */
static void page_date(char *to, size_t size)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t now = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm tm;

    if (!gmtime_r(&now, &tm) || !strftime(to, size, "%Y-%m-%d", &tm))
        snprintf(to, size, "undated");
}

static int write_page(const char *directory, const struct command *command, const char *path,
                      const char *page, struct err *e)
{
    struct buf text = BUF_INIT;
    char name[4096], date[40];
    FILE *file;
    int status = 0;

    page_date(date, sizeof(date));
    command_man(&text, command, path, page, date);
    snprintf(name, sizeof(name), "%s/%s.1", directory, page);
    file = fopen(name, "we");
    if (!file || fputs(buf_str(&text), file) < 0)
        status = -1;
    if (file && fclose(file) != 0)
        status = -1;
    if (status < 0)
        err_sys(e, ERR_OPERATOR, errno, "can not write the man page '%s'", name);
    buf_release(&text);
    return status;
}

static int write_pages(const char *directory, struct err *e)
{
    const struct command *root = app_root();

    if (write_page(directory, root, root->name, root->name, e) < 0)
        return -1;
    for (const struct command *const *sub = root->subs; *sub; sub++) {
        char path[SELECT_PATH_SIZE], page[SELECT_PATH_SIZE];

        snprintf(path, sizeof(path), "%s %s", root->name, (*sub)->name);
        snprintf(page, sizeof(page), "%s-%s", root->name, (*sub)->name);
        if (write_page(directory, *sub, path, page, e) < 0)
            return -1;
    }
    return 0;
}

static int print_completion(void)
{
    struct buf text = BUF_INIT;

    command_complete(&text, app_root());
    fputs(buf_str(&text), stdout);
    buf_release(&text);
    return EXITCODE_OK;
}

static int run(struct command_context *ctx, const struct opt_values *v, int argc, char **argv)
{
    const struct command *command = app_root();
    char path[SELECT_PATH_SIZE] = "celeriac";
    struct err e = ERR_INIT;

    if (opt_flag(v, "completion"))
        return print_completion();
    if (opt_text(v, "man"))
        return write_pages(opt_text(v, "man"), &e) < 0 ? command_fail(ctx, &e) : EXITCODE_OK;
    for (int i = 0; i < argc; i++) {
        size_t len = strlen(path);

        command = selection_sub(command, argv[i]);
        if (!command)
            return command_usage(ctx, "there is no command '%s'; see 'celeriac help'", argv[i]);
        snprintf(path + len, sizeof(path) - len, " %s", command->name);
    }
    return help_show(stdout, command, path);
}

const struct command command_help_row = {
    .name = "help",
    .summary = "Show the help of a command.",
    .positional = "[COMMAND...]",
    .opts = {rows, NULL},
    .args_max = -1,
    .run = run,
};
