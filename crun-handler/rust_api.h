#ifndef CRUN_QEMU_RUST_API_H
#define CRUN_QEMU_RUST_API_H

#include "crun_qemu.h"

/* Loads the library on the first call and returns its functions. On failure, returns NULL and sets *MSG to a line that
 * the caller frees, or to NULL when memory ran out. */
const struct rust_api *load_rust_api (char **msg);

#endif
