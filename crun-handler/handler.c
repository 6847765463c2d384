/* The handler's table and its functions. crun loads this file on every command of every container: until a container asks
 * for this handler, no code runs, nothing is allocated and the core is not loaded. */
#include <stdio.h>
#include <unistd.h>

#include "core.h"
#include "crun.h"
#include "error.h"

/* Loads the core while the host's files are still visible: all later functions except modify_oci_configuration run in the
 * container. */
static int
load (void **cookie, struct crun_error **err)
{
  char *msg = NULL;

  if (cookie)
    *cookie = NULL;
  return core (&msg) ? 0 : fail (err, msg);
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
  const struct core *c;
  char *msg = NULL;

  (void) cookie;
  c = core (&msg);
  if (c == NULL || c->create (context, def, &msg) < 0)
    return fail (err, msg);
  return 0;
}

static int
configure_container (void *cookie, enum crun_phase phase, struct crun_context *context,
                     struct crun_container *container, const char *rootfs, struct crun_error **err)
{
  const struct core *c;
  char *msg = NULL;

  (void) cookie;
  (void) rootfs;
  if (phase != CRUN_PHASE_BEFORE_MOUNTS)
    return 0;
  c = core (&msg);
  if (c == NULL || c->network (context, container, &msg) < 0)
    return fail (err, msg);
  return 0;
}

/* For functions that get no error to fill in from crun: the reason goes to stderr, the status to the engine. */
static const struct core *
core_or_exit (void)
{
  char *msg = NULL;
  const struct core *c = core (&msg);

  if (c)
    return c;
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
  _exit (core_or_exit ()->run ());
}

static int
exec (void *cookie, struct crun_container *container, const char *path, char *const argv[])
{
  (void) cookie;
  (void) container;
  (void) path;
  _exit (core_or_exit ()->exec ((const char *const *) argv, (const char *const *) environ));
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
