#include "app/scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int scratch_make(char path[SCRATCH_PATH_SIZE], struct err *e)
{
    const char *tmp = getenv("TMPDIR");

    if (tmp == NULL || *tmp == '\0' || strlen(tmp) > SCRATCH_PATH_SIZE / 2)
        tmp = "/tmp";
    snprintf(path, SCRATCH_PATH_SIZE, "%s/celeriac-XXXXXX", tmp);
    if (mkdtemp(path) == NULL)
        return err_set(e, ERR_OPERATOR, "%s: can not make a scratch folder there", tmp);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

void scratch_remove(const char *path)
{
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}
