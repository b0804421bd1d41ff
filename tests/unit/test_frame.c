#include "base/frame.h"
#include "base/proc.h"
#include "tests/support/check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
    struct frame_link a, b;
    struct err e;
};

static void open_pair(struct pair *p, int nonblock)
{
    int fds[2];

    p->e = (struct err)ERR_INIT;
    assert_int_equal(proc_socketpair(fds, nonblock, &p->e), 0);
    frame_link_init(&p->a, fds[0]);
    frame_link_init(&p->b, fds[1]);
}

static void close_pair(struct pair *p)
{
    frame_link_release(&p->a);
    frame_link_release(&p->b);
}

static void frames_arrive_in_order(void **state)
{
    struct pair p;
    struct frame f;
    size_t mark;

    (void)state;
    open_pair(&p, 3);
    frame_put(&p.a, 1, 2, 3, slice_of("one"));
    frame_put(&p.a, 4, 0, 5, slice_make("", 0));
    mark = frame_begin(&p.a, 6, 0x7fff, 7);
    buf_adds(&p.a.out, "built ");
    buf_adds(&p.a.out, "in place");
    frame_end(&p.a, mark);
    assert_true(frame_pending(&p.a));
    assert_int_equal(frame_flush(&p.a, &p.e), FRAME_OK);
    assert_false(frame_pending(&p.a));
    assert_int_equal(frame_fill(&p.b, &p.e), FRAME_OK);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 1 && f.flags == 2 && f.id == 3 && f.fd == -1);
    assert_true(slice_is(f.payload, "one"));
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 4 && f.id == 5 && f.payload.len == 0);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.flags == 0x7fff && slice_is(f.payload, "built in place"));
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_EMPTY);
    assert_int_equal(frame_fill(&p.b, &p.e), FRAME_EMPTY);
    close_pair(&p);
}

/* As many small frames as the socket takes, read in pieces that end anywhere: the buffer does not
 * grow past one reading, and goes back when it is empty. */
static void small_frames_need_one_small_buffer(void **state)
{
    char payload[1500] = "x";
    struct pair p;
    struct frame f;
    int sent = 0, taken = 0;

    (void)state;
    open_pair(&p, 3);
    for (int round = 0; round < 50; round++) {
        while (frame_flush(&p.a, &p.e) == FRAME_OK && sent - taken < 200)
            frame_put(&p.a, 1, 0, (uint64_t)++sent, slice_make(payload, sizeof(payload)));
        assert_int_equal(frame_fill(&p.b, &p.e), FRAME_OK);
        while (frame_take(&p.b, &f, &p.e) == FRAME_OK)
            assert_true(f.id == (uint64_t)++taken && f.payload.len == sizeof(payload));
        assert_in_range(p.b.in.cap, 1, 64 * 1024);
    }
    while (taken < sent) {
        frame_flush(&p.a, &p.e);
        frame_fill(&p.b, &p.e);
        while (frame_take(&p.b, &f, &p.e) == FRAME_OK)
            taken++;
    }
    frame_link_shrink(&p.b, 64 * 1024);
    assert_non_null(p.b.in.mem);
    frame_link_shrink(&p.b, 4096);
    assert_null(p.b.in.mem);
    close_pair(&p);
}

/* Whatever the pieces in which bytes arrive, frames come out whole. */
static void bytes_one_by_one(void **state)
{
    struct pair p;
    struct frame f;
    struct slice bytes;

    (void)state;
    open_pair(&p, 3);
    frame_put(&p.a, 9, 0, 1, slice_of("payload"));
    bytes = buf_slice(&p.a.out);
    for (size_t i = 0; i < bytes.len; i++) {
        assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_EMPTY);
        assert_int_equal(send(p.a.fd, bytes.ptr + i, 1, 0), 1);
        assert_int_equal(frame_fill(&p.b, &p.e), FRAME_OK);
    }
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 9 && slice_is(f.payload, "payload"));
    close_pair(&p);
}

/* More than the socket holds: flush says so, and goes on when there is room. */
static void a_large_frame_takes_turns(void **state)
{
    const size_t len = 5u * 1024 * 1024;
    char *big = malloc(len);
    struct pair p;
    struct frame f;
    enum frame_status sent = FRAME_EMPTY, got = FRAME_EMPTY;
    int turns = 0;

    (void)state;
    assert_non_null(big);
    for (size_t i = 0; i < len; i++)
        big[i] = (char)(i * 31);
    open_pair(&p, 3);
    frame_put(&p.a, 1, 0, 1, slice_make(big, len));
    while (got == FRAME_EMPTY) {
        if (sent == FRAME_EMPTY)
            sent = frame_flush(&p.a, &p.e);
        while (frame_fill(&p.b, &p.e) == FRAME_OK)
            ;
        got = frame_take(&p.b, &f, &p.e);
        turns++;
    }
    assert_int_equal(sent, FRAME_OK);
    assert_int_equal(got, FRAME_OK);
    assert_true(turns > 1);
    assert_int_equal(f.payload.len, len);
    assert_memory_equal(f.payload.ptr, big, len);
    close_pair(&p);
    free(big);
}

static void the_peers_death_is_end_of_file(void **state)
{
    struct pair p;
    struct frame f;

    (void)state;
    open_pair(&p, 3);
    frame_put(&p.a, 1, 0, 1, slice_of("last words"));
    assert_int_equal(frame_flush(&p.a, &p.e), FRAME_OK);
    frame_link_release(&p.a);
    assert_int_equal(frame_fill(&p.b, &p.e), FRAME_OK);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(slice_is(f.payload, "last words"));
    assert_int_equal(frame_fill(&p.b, &p.e), FRAME_EOF);
    frame_put(&p.b, 1, 0, 1, slice_of("too late"));
    assert_int_equal(frame_flush(&p.b, &p.e), FRAME_EOF);
    frame_link_release(&p.b);
}

static void an_absurd_length_is_an_error(void **state)
{
    unsigned char header[16];
    struct pair p;
    struct frame f;

    (void)state;
    memset(header, 0xff, sizeof(header));
    open_pair(&p, 3);
    assert_int_equal(send(p.a.fd, header, sizeof(header), 0), (int)sizeof(header));
    assert_int_equal(frame_fill(&p.b, &p.e), FRAME_OK);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_ERROR);
    assert_non_null(strstr(p.e.text, "over the limit"));
    close_pair(&p);
}

static void a_frame_that_cannot_be_built_fails_at_flush(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p, 3);
    assert_null(buf_reserve(&p.a.out, SIZE_MAX));
    frame_put(&p.a, 1, 0, 1, slice_of("x"));
    assert_int_equal(frame_flush(&p.a, &p.e), FRAME_ERROR);
    assert_int_equal(p.e.code, ERR_NOMEM);
    close_pair(&p);
}

/* The descriptor arrives with its own frame, between others, close-on-exec. */
static void a_descriptor_passes(void **state)
{
    int pipes[2];
    struct pair p;
    struct frame f;
    char c = 0;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    open_pair(&p, 3);
    frame_put(&p.a, 1, 0, 1, slice_of("before"));
    assert_int_equal(frame_flush(&p.a, &p.e), FRAME_OK);
    assert_int_equal(frame_send_fd(&p.a, 2, 8, pipes[1], &p.e), 0);
    frame_put(&p.a, 3, 0, 9, slice_of("after"));
    assert_int_equal(frame_flush(&p.a, &p.e), FRAME_OK);
    while (frame_fill(&p.b, &p.e) == FRAME_OK)
        ;
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 1 && f.fd == -1);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 2 && f.id == 8 && f.fd >= 0 && f.fd != pipes[1]);
    assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(f.fd, "!", 1), 1);
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_int_equal(c, '!');
    close(f.fd);
    assert_int_equal(frame_take(&p.b, &f, &p.e), FRAME_OK);
    assert_true(f.type == 3 && f.fd == -1);
    close_pair(&p);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_in_order),
        cmocka_unit_test(small_frames_need_one_small_buffer),
        cmocka_unit_test(bytes_one_by_one),
        cmocka_unit_test(a_large_frame_takes_turns),
        cmocka_unit_test(the_peers_death_is_end_of_file),
        cmocka_unit_test(an_absurd_length_is_an_error),
        cmocka_unit_test(a_frame_that_cannot_be_built_fails_at_flush),
        cmocka_unit_test(a_descriptor_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
