#ifndef CRUN_QEMU_ERROR_H
#define CRUN_QEMU_ERROR_H

#include "crun.h"

/* Sets *ERR to an error with the text MSG, which crun frees. MSG is malloc'ed, or NULL when memory ran out; without an ERR,
 * MSG is freed here. Always returns a negative number. */
int fail (struct crun_error **err, char *msg);

#endif
