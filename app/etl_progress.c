#include "app/etl_progress.h"

#include <inttypes.h>
#include <string.h>

#define BAR_WIDTH     40
#define TTY_EVERY_MS  100
#define PIPE_EVERY_MS 1000

void etl_progress_init(struct etl_progress *progress, FILE *out, bool tty,
                       const struct clock *clock)
{
    *progress = (struct etl_progress){
        .out = out, .tty = tty, .shown_ms = clock_mono_ms(clock), .clock = clock};
}

static void draw_bar(struct etl_progress *progress, size_t done, size_t all, uint64_t lines)
{
    size_t filled = all > 0 ? done * BAR_WIDTH / all : BAR_WIDTH;
    char bar[BAR_WIDTH + 1];

    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR_WIDTH - filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(progress->out, "\r[%s] %3zu%%  %zu of %zu chunks, %" PRIu64 " lines ", bar,
            all > 0 ? done * 100 / all : 100, done, all, lines);
    progress->drawn = true;
}

void etl_progress_moved(void *user, size_t done, size_t all, uint64_t lines)
{
    struct etl_progress *progress = user;
    int64_t now_ms = clock_mono_ms(progress->clock);

    if (done < all && now_ms - progress->shown_ms < (progress->tty ? TTY_EVERY_MS : PIPE_EVERY_MS))
        return;
    progress->shown_ms = now_ms;
    if (progress->tty)
        draw_bar(progress, done, all, lines);
    else
        fprintf(progress->out, "%zu of %zu chunks, %" PRIu64 " lines\n", done, all, lines);
    fflush(progress->out);
}

void etl_progress_end(struct etl_progress *progress)
{
    if (progress->drawn)
        fputc('\n', progress->out);
    progress->drawn = false;
}
