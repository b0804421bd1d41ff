#include "broker/amqp_api.h"

#include "base/buf.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (16u << 20)
#define LIBRARY    "libcurl.so.4"

/* The functions of libcurl that are used here. */
#define CALLS(X)                                                                                   \
    X(url)                                                                                         \
    X(url_get)                                                                                     \
    X(url_set)                                                                                     \
    X(url_cleanup)                                                                                 \
    X(free)                                                                                        \
    X(easy_init)                                                                                   \
    X(easy_setopt)                                                                                 \
    X(easy_getinfo)                                                                                \
    X(easy_escape)                                                                                 \
    X(easy_perform)                                                                                \
    X(easy_strerror)                                                                               \
    X(easy_cleanup)

#define MEMBER(name) __typeof__(curl_##name) *(name);
#define FIND(name)   find(c->library, "curl_" #name, &c->name) &&

/* Loaded when somebody asks, for good: libcurl brings thirty libraries along, which would cost
 * every worker half of its memory and a third of its start. */
struct curl {
    void *library;
    CALLS(MEMBER)
};

struct amqp_api {
    struct curl c;
    CURL *curl;
    struct buf body;
    char *shown; /* owned */
};

/* A function's address in a pointer of any function's type, as POSIX has it. */
static bool find(void *library, const char *name, void *function)
{
    void *at = dlsym(library, name);

    memcpy(function, &at, sizeof(at));
    return at != NULL;
}

static int load(struct curl *c, struct err *e)
{
    c->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (c->library && CALLS(FIND) true)
        return 0;
    return err_set(e, ERR_OPERATOR,
                   "the management API is asked through %s, which can not be loaded: %s; install "
                   "it with 'apt-get install libcurl4'",
                   LIBRARY, dlerror());
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *user)
{
    struct amqp_api *api = user;

    if (api->body.len + size * n > ANSWER_MAX)
        return 0;
    buf_add(&api->body, bytes, size * n);
    return api->body.failed ? 0 : size * n;
}

/* Takes a part out of the URL; NULL when it is absent. Freed with curl_free. */
static char *take_part(const struct curl *c, CURLU *url, CURLUPart part)
{
    char *text = NULL;

    if (c->url_get(url, part, &text, CURLU_URLDECODE) != CURLUE_OK)
        return NULL;
    c->url_set(url, part, NULL, 0);
    return text;
}

static void trim_slashes(char *text)
{
    for (size_t len = strlen(text); len && text[len - 1] == '/'; len--)
        text[len - 1] = '\0';
}

static int set_url(struct amqp_api *api, CURLU *url, struct err *e)
{
    char *whole = NULL, *scheme = NULL;
    int status = -1;

    if (api->c.url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        err_set(e, ERR_USAGE, "the management API has an http:// or https:// URL, such as %s",
                "http://guest:guest@localhost:15672");
    else if (api->c.url_get(url, CURLUPART_URL, &whole, 0) != CURLUE_OK)
        err_nomem(e);
    else
        api->shown = strdup(whole);
    if (api->shown) {
        trim_slashes(api->shown);
        status = 0;
    }
    api->c.free(whole);
    api->c.free(scheme);
    return status;
}

static void set_login(struct amqp_api *api, CURLU *url, const char *user, const char *password)
{
    char *own_user = take_part(&api->c, url, CURLUPART_USER);
    char *own_password = take_part(&api->c, url, CURLUPART_PASSWORD);

    if (own_user) {
        user = own_user;
        password = own_password;
    }
    api->c.easy_setopt(api->curl, CURLOPT_USERNAME, user ? user : "guest");
    api->c.easy_setopt(api->curl, CURLOPT_PASSWORD, password ? password : user ? "" : "guest");
    api->c.free(own_user);
    api->c.free(own_password);
}

static void set_options(struct amqp_api *api, int64_t timeout_ms)
{
    /* The strings' option is newer than the oldest libcurl that is supported; the bits still work.
     */
    api->c.easy_setopt(api->curl, CURLOPT_NOSIGNAL, 1L);
    api->c.easy_setopt(api->curl, CURLOPT_FOLLOWLOCATION, 0L);
    api->c.easy_setopt(api->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    api->c.easy_setopt(api->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    api->c.easy_setopt(api->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    api->c.easy_setopt(api->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    api->c.easy_setopt(api->curl, CURLOPT_WRITEDATA, api);
}

struct amqp_api *amqp_api_open(const char *url, const char *user, const char *password,
                               int64_t timeout_ms, struct err *e)
{
    struct amqp_api *api = calloc(1, sizeof(*api));
    CURLU *parsed = NULL;
    int status = -1;

    if (!api) {
        err_nomem(e);
        return NULL;
    }
    if (load(&api->c, e) < 0)
        goto out;
    parsed = api->c.url();
    if (!parsed || !(api->curl = api->c.easy_init())) {
        err_nomem(e);
    } else if (api->c.url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK) {
        err_set(e, ERR_USAGE, "the management API's URL can not be read: it looks like %s",
                "http://guest:guest@localhost:15672");
    } else {
        set_login(api, parsed, user, password);
        set_options(api, timeout_ms);
        status = set_url(api, parsed, e);
    }
    api->c.url_cleanup(parsed);
out:
    if (status == 0)
        return api;
    amqp_api_close(api);
    return NULL;
}

void amqp_api_close(struct amqp_api *api)
{
    if (!api)
        return;
    if (api->curl)
        api->c.easy_cleanup(api->curl);
    buf_release(&api->body);
    free(api->shown);
    free(api);
}

const char *amqp_api_shown(const struct amqp_api *api)
{
    return api->shown;
}

static int set_path(struct amqp_api *api, const char *const *path)
{
    struct buf url = BUF_INIT;
    CURLcode rc = CURLE_OUT_OF_MEMORY;

    buf_addf(&url, "%s/api", api->shown);
    for (; *path; path++) {
        char *segment = api->c.easy_escape(api->curl, *path, 0);

        buf_addf(&url, "/%s", segment ? segment : "");
        url.failed |= !segment;
        api->c.free(segment);
    }
    if (!url.failed)
        rc = api->c.easy_setopt(api->curl, CURLOPT_URL, buf_str(&url));
    buf_release(&url);
    return rc == CURLE_OK ? 0 : -1;
}

static int check_status(const struct amqp_api *api, const char *path, struct err *e)
{
    long status = 0;

    api->c.easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        return 0;
    if (status == 401)
        return err_set(e, ERR_OPERATOR,
                       "the management API at %s refuses name or password: give those of a user "
                       "with the tag monitoring or management",
                       api->shown);
    if (status == 404)
        return err_set(e, ERR_NOTFOUND, "the management API at %s does not know %s", api->shown,
                       path);
    return err_set(e, ERR_OPERATOR, "the management API at %s answers %s with HTTP status %ld",
                   api->shown, path, status);
}

json_t *amqp_api_get(struct amqp_api *api, const char *const *path, struct err *e)
{
    json_t *answer;
    CURLcode rc;

    buf_clear(&api->body);
    if (set_path(api, path) != 0) {
        err_nomem(e);
        return NULL;
    }
    rc = api->c.easy_perform(api->curl);
    if (rc != CURLE_OK) {
        err_set(e, ERR_RECONNECT, "the management API at %s can not be asked: %s", api->shown,
                api->c.easy_strerror(rc));
        return NULL;
    }
    if (check_status(api, path[0], e) != 0)
        return NULL;
    answer = json_loadb(buf_slice(&api->body).ptr, api->body.len, 0, NULL);
    if (!answer)
        err_set(e, ERR_OPERATOR, "what answers at %s is no management API of RabbitMQ", api->shown);
    return answer;
}
