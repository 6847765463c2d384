#ifndef CRUN_QEMU_ERROR_H
#define CRUN_QEMU_ERROR_H

#include "crun.h"

/* Hands MSG, a malloc'ed line or NULL when memory ran out, to crun, which frees it. Always returns a negative number. */
int fail (struct crun_error **err, char *msg);

#endif
