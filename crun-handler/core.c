/* Loads the Rust part. It is a library of its own, so that crun need not map and relocate its megabytes for ordinary
 * containers. */
#include "core.h"

#include <dlfcn.h>
#include <stdio.h>

/* Where `make install` puts the library: an absolute path, so that no library search path applies. */
#ifndef CRUN_QEMU_CORE
#error "CRUN_QEMU_CORE has to be the library's absolute path"
#endif

static const struct core *
failed (char **msg)
{
  if (asprintf (msg, "qemu: plugin: %s (crun-qemu is not installed whole: make install)", dlerror ()) < 0)
    *msg = NULL;
  return NULL;
}

const struct core *
core (char **msg)
{
  static struct core functions;
  static void *library;
  void *opened;

  if (library)
    return &functions;
  opened = dlopen (CRUN_QEMU_CORE, RTLD_NOW | RTLD_LOCAL);
  if (opened == NULL)
    return failed (msg);
  if ((functions.create = dlsym (opened, "crun_qemu_create")) == NULL
      || (functions.network = dlsym (opened, "crun_qemu_network")) == NULL
      || (functions.run = dlsym (opened, "crun_qemu_run")) == NULL
      || (functions.exec = dlsym (opened, "crun_qemu_exec")) == NULL)
    return failed (msg);
  library = opened;
  return &functions;
}
