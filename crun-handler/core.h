#ifndef CRUN_QEMU_CORE_H
#define CRUN_QEMU_CORE_H

#include "crun_qemu.h"

/* The functions of crun_qemu.h. */
struct core
{
  __typeof__ (crun_qemu_create) *create;
  __typeof__ (crun_qemu_network) *network;
  __typeof__ (crun_qemu_run) *run;
  __typeof__ (crun_qemu_exec) *exec;
};

/* Loads the library that has them, once. Returns NULL when it cannot be had, with *MSG a line that the caller frees, or
 * NULL when memory ran out. */
const struct core *core (char **msg);

#endif
