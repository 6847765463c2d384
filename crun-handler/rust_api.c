/* Loads the Rust part. It is a library of its own, so that crun need not map and relocate its megabytes for ordinary
 * containers. */
#define _GNU_SOURCE /* asprintf */
#include "rust_api.h"

#include <dlfcn.h>
#include <stdio.h>

/* Where `make install` puts the library: an absolute path, so that no library search path applies. */
#ifndef CRUN_QEMU_CORE
#error "CRUN_QEMU_CORE has to be the library's absolute path"
#endif

static const struct rust_api *
failed (char **msg)
{
  if (asprintf (msg, "qemu: plugin: %s (crun-qemu is not installed whole: make install)", dlerror ()) < 0)
    *msg = NULL;
  return NULL;
}

const struct rust_api *
load_rust_api (char **msg)
{
  static const struct rust_api *functions;
  __typeof__ (crun_qemu_core) *get_functions;
  void *library;

  if (functions)
    return functions;
  library = dlopen (CRUN_QEMU_CORE, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL)
    return failed (msg);
  get_functions = dlsym (library, "crun_qemu_core");
  if (get_functions == NULL)
    return failed (msg);
  functions = get_functions ();
  return functions;
}
