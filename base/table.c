#include "base/table.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

void table_init(struct table *t, const char *const *names)
{
    *t = (struct table){.cells = BUF_INIT};
    while (names[t->columns] && t->columns < TABLE_COLUMNS_MAX) {
        t->names[t->columns] = names[t->columns];
        t->columns++;
    }
}

void table_release(struct table *t)
{
    buf_release(&t->cells);
}

static bool is_control(char c)
{
    return ((unsigned char)c < ' ' && c != '\0') || c == 0x7f;
}

static void finish_cell(struct table *t, size_t begin)
{
    char *mem = t->cells.mem + t->cells.start;

    if (t->cells.failed)
        return;
    for (size_t i = begin; i < t->cells.len; i++)
        mem[i] = is_control(mem[i]) ? '?' : mem[i];
    buf_add(&t->cells, "", 1);
    t->cells_len++;
}

void table_cell(struct table *t, const char *text)
{
    size_t begin = t->cells.len;

    buf_adds(&t->cells, text ? text : "-");
    finish_cell(t, begin);
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    size_t begin = t->cells.len;
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_adds(&t->cells, text);
    finish_cell(t, begin);
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int width_of(const char *text)
{
    int width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static bool is_right(const char *name)
{
    return name[0] == '>';
}

static const char *title_of(const char *name)
{
    return is_right(name) ? name + 1 : name;
}

static void measure(const struct table *t, int *widths)
{
    const char *cell = t->cells.mem ? t->cells.mem + t->cells.start : "";

    assert(t->columns > 0);

    for (size_t i = 0; i < t->columns; i++)
        widths[i] = width_of(title_of(t->names[i]));
    for (size_t i = 0; i < t->cells_len; i++) {
        int width = width_of(cell);

        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
        cell += strlen(cell) + 1;
    }
}

static void print_cell(const struct table *t, size_t column, const char *text, const int *widths,
                       FILE *to)
{
    int padding = widths[column] - width_of(text);
    bool last = column + 1 == t->columns;

    if (is_right(t->names[column]))
        fprintf(to, "%*s%s", padding, "", text);
    else
        fprintf(to, "%s%*s", text, last ? 0 : padding, "");
    fputs(last ? "\n" : "  ", to);
}

int table_print(struct table *t, FILE *to, bool bold)
{
    const char *cell = t->cells.mem ? t->cells.mem + t->cells.start : "";
    int widths[TABLE_COLUMNS_MAX];

    assert(t->columns > 0);
    if (t->cells.failed)
        return -1;
    measure(t, widths);
    if (t->names[0][0]) {
        fputs(bold ? "\033[1m" : "", to);
        for (size_t i = 0; i < t->columns; i++)
            print_cell(t, i, title_of(t->names[i]), widths, to);
        fputs(bold ? "\033[0m" : "", to);
    }
    for (size_t i = 0; i < t->cells_len; i++) {
        print_cell(t, i % t->columns, cell, widths, to);
        cell += strlen(cell) + 1;
    }
    return 0;
}
