/* Which calls of a task are the same piece of work. */
#include "tests/support/check.h"

#include "broker/broker.h"
#include "worker/dedup_rule.h"

#include <stdio.h>
#include <stdlib.h>

/* The key of a call, to be freed; args and kwargs are JSON texts. */
static char *key_of(const char *params, const char *chosen, const char *args, const char *kwargs)
{
    struct err e = ERR_INIT;
    struct dedup_rule *rule = dedup_rule_new(params, chosen, 0, &e);
    json_t *a = json_loads(args, 0, NULL), *k = json_loads(kwargs, 0, NULL);
    struct buf key = BUF_INIT;
    char *text = NULL;

    assert_non_null(rule);
    assert_true(json_is_array(a) && json_is_object(k));
    if (dedup_rule_key(rule, "shop.bill", a, k, &key, &e) == 0)
        text = strdup(buf_str(&key));
    else
        assert_int_equal(e.code, ERR_REFUSED);
    buf_release(&key);
    json_decref(a);
    json_decref(k);
    dedup_rule_free(rule);
    return text;
}

static void check(const char *params, const char *chosen, const char *args, const char *kwargs,
                  const char *want)
{
    char *key = key_of(params, chosen, args, kwargs);

    if (want)
        assert_string_equal(key, want);
    else
        assert_null(key);
    free(key);
}

static void values_count_however_they_are_given(void **state)
{
    static const char params[] = "order, note=\"\", *, day=1";

    (void)state;
    check(params, "order", "[7, \"x\"]", "{}", "shop.bill:{\"order\":7}");
    check(params, "order", "[]", "{\"order\": 7}", "shop.bill:{\"order\":7}");
    check(params, "day, order", "[7]", "{}", "shop.bill:{\"day\":1,\"order\":7}");
    check(params, "order day", "[7]", "{\"day\": 1}", "shop.bill:{\"day\":1,\"order\":7}");
    check(params, "*", "[7]", "{}", "shop.bill:{\"day\":1,\"note\":\"\",\"order\":7}");
    check(params, "*", "[]", "{\"note\": \"\", \"order\": 7}",
          "shop.bill:{\"day\":1,\"note\":\"\",\"order\":7}");
    check(params, "order", "[{\"b\": [1, 2], \"a\": null}]", "{}",
          "shop.bill:{\"order\":{\"a\":null,\"b\":[1,2]}}");
}

static void more_arguments_count_with_all(void **state)
{
    (void)state;
    check("x, *rest, **more", "*", "[1, 2, 3]", "{\"y\": 4}",
          "shop.bill:{\"*\":[2,3],\"x\":1,\"y\":4}");
    check("x, *rest, **more", "x", "[1, 2, 3]", "{\"y\": 4}", "shop.bill:{\"x\":1}");
    check(NULL, "*", "[1, 2]", "{\"b\": 1, \"a\": 2}",
          "shop.bill:{\"args\":[1,2],\"kwargs\":{\"a\":2,\"b\":1}}");
}

/* Such a call ends in a TypeError: there is nothing to be done once. */
static void a_call_that_does_not_fit_has_no_key(void **state)
{
    (void)state;
    check("x", "x", "[]", "{}", NULL);
    check("x", "x", "[1, 2]", "{}", NULL);
    check("x", "x", "[1]", "{\"y\": 2}", NULL);
}

static void long_keys_become_digests(void **state)
{
    char text[700], other[700], *a, *b, *c;

    (void)state;
    snprintf(text, sizeof(text), "[\"%0600d\"]", 1);
    snprintf(other, sizeof(other), "[\"%0600d\"]", 2);
    a = key_of("x", "x", text, "{}");
    b = key_of("x", "x", text, "{}");
    c = key_of("x", "x", other, "{}");
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_int_equal(strncmp(a, "shop.bill:xxh128:", 17), 0);
    assert_int_equal(strlen(a), 17 + 32);
    assert_true(strlen(a) <= BROKER_KEY_MAX);
    free(a);
    free(b);
    free(c);
}

static void refuse(const char *params, const char *chosen, double window_s, const char *piece)
{
    struct err e = ERR_INIT;

    assert_null(dedup_rule_new(params, chosen, window_s, &e));
    assert_int_equal(e.code, ERR_OPERATOR);
    if (!strstr(e.text, piece))
        fail_msg("\"%s\" does not say \"%s\"", e.text, piece);
}

static void wrong_rules_are_refused(void **state)
{
    struct err e = ERR_INIT;
    struct dedup_rule *rule;

    (void)state;
    refuse("x", "y", 0, "\"y\", which is not in params");
    refuse(NULL, "x", 0, "\"x\", which is not in params");
    refuse("x", " , ", 0, "names no parameter");
    refuse("x", "", 0, "names no parameter");
    refuse("x", "x", -1, "dedup_window_s is -1");
    refuse("x", "x", 1e9, "dedup_window_s is 1e+09");
    refuse("x,,", "x", 0, "params");
    rule = dedup_rule_new("x", "x", 0, &e);
    assert_int_equal(dedup_rule_window_ms(rule), 3600000);
    dedup_rule_free(rule);
    rule = dedup_rule_new("x", "x", 1.5, &e);
    assert_int_equal(dedup_rule_window_ms(rule), 1500);
    dedup_rule_free(rule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_count_however_they_are_given),
        cmocka_unit_test(more_arguments_count_with_all),
        cmocka_unit_test(a_call_that_does_not_fit_has_no_key),
        cmocka_unit_test(long_keys_become_digests),
        cmocka_unit_test(wrong_rules_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
