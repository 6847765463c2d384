/* The handler's table and its functions. crun loads this file on every command of every container: until a container asks
 * for this handler, no code runs, nothing is allocated and the core is not loaded. */
#define _GNU_SOURCE /* environ */
#include <stdio.h>
#include <unistd.h>

#include "crun.h"
#include "error.h"
#include "rust_api.h"

/* Loads the core while the host's files are still visible: all later functions except modify_oci_configuration run in the
 * container. */
static int
load (void **cookie, struct crun_error **err)
{
  char *msg = NULL;

  if (cookie)
    *cookie = NULL;
  return load_rust_api (&msg) ? 0 : fail (err, msg);
}

static int
unload (void *cookie, struct crun_error **err)
{
  (void) cookie;
  (void) err;
  return 0;
}

static int
modify_oci_configuration (void *cookie, struct crun_context *context, struct crun_config *def, struct crun_error **err)
{
  const struct rust_api *rust;
  char *msg = NULL;

  (void) cookie;
  rust = load_rust_api (&msg);
  if (rust == NULL || rust->create (context, def, &msg) < 0)
    return fail (err, msg);
  return 0;
}

static int
configure_container (void *cookie, enum crun_phase phase, struct crun_context *context,
                     struct crun_container *container, const char *rootfs, struct crun_error **err)
{
  const struct rust_api *rust;
  char *msg = NULL;

  (void) cookie;
  (void) rootfs;
  if (phase != CRUN_PHASE_BEFORE_MOUNTS)
    return 0;
  rust = load_rust_api (&msg);
  if (rust == NULL || rust->network (context, container, &msg) < 0)
    return fail (err, msg);
  return 0;
}

/* For functions that get no error to fill in from crun: the reason goes to stderr, the status to the engine. */
static const struct rust_api *
load_rust_api_or_exit (void)
{
  char *msg = NULL;
  const struct rust_api *rust = load_rust_api (&msg);

  if (rust)
    return rust;
  dprintf (STDERR_FILENO, "%s\n", msg ? msg : "qemu: plugin: out of memory");
  _exit (126);
}

static int
run (void *cookie, struct crun_container *container, const char *path, char *const argv[])
{
  (void) cookie;
  (void) container;
  (void) path;
  (void) argv;
  _exit (load_rust_api_or_exit ()->run ());
}

static int
exec (void *cookie, struct crun_container *container, const char *path, char *const argv[])
{
  (void) cookie;
  (void) container;
  (void) path;
  _exit (load_rust_api_or_exit ()->exec ((const char *const *) argv, (const char *const *) environ));
}

static struct crun_handler handler = {
  .name = "qemu",
  .feature_string = "QEMU",
  .load = load,
  .unload = unload,
  .run_func = run,
  .exec_func = exec,
  .configure_container = configure_container,
  .modify_oci_configuration = modify_oci_configuration,
};

__attribute__ ((visibility ("default"))) struct crun_handler *run_oci_handler_get_handler (void);

struct crun_handler *
run_oci_handler_get_handler (void)
{
  return &handler;
}
