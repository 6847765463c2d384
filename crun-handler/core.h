#ifndef CRUN_QEMU_CORE_H
#define CRUN_QEMU_CORE_H

#include "crun_qemu.h"

/* The functions that crun_qemu.h declares. */
struct core
{
  __typeof__ (crun_qemu_create) *create;
  __typeof__ (crun_qemu_network) *network;
  __typeof__ (crun_qemu_run) *run;
  __typeof__ (crun_qemu_exec) *exec;
};

/* Loads the library on the first call and returns its functions. On failure, returns NULL and sets *MSG to a line that
 * the caller frees, or to NULL when memory ran out. */
const struct core *core (char **msg);

#endif
