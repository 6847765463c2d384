/* The handler's table and its thunks. crun loads this on every command of every container: nothing runs and nothing is
 * allocated before a container asks for this handler. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crun.h"
#include "crun_qemu.h"
#include "error.h"

static int
load (void **cookie, struct crun_error **err)
{
  (void) err;
  if (cookie)
    *cookie = NULL;
  return 0;
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
  char *msg = NULL;

  (void) cookie;
  if (crun_qemu_create (context ? context->state_root : NULL, context ? context->bundle : NULL,
                        context ? context->id : NULL, def, &msg) < 0)
    return fail (err, msg);
  return 0;
}

static int
configure_container (void *cookie, enum crun_phase phase, struct crun_context *context,
                     struct crun_container *container, const char *rootfs, struct crun_error **err)
{
  char *msg = NULL;

  (void) cookie;
  (void) rootfs;
  if (phase != CRUN_PHASE_BEFORE_MOUNTS)
    return 0;

  /* This is the child's copy. crun took the ids from process.user, which may be the image's USER; from here on they
     decide whom the process runs as and to whom its terminal belongs. */
  if (container)
    container->container_uid = container->container_gid = 0;

  if (crun_qemu_network (context ? context->bundle : NULL, &msg) < 0)
    return fail (err, msg);
  return 0;
}

/* crun gives no error to fill in from here on: the reason goes to stderr, the status to the engine. */
static int
run (void *cookie, struct crun_container *container, const char *path, char *const argv[])
{
  (void) cookie;
  (void) container;
  (void) path;
  (void) argv;
  _exit (crun_qemu_run ());
}

static int
exec (void *cookie, struct crun_container *container, const char *path, char *const argv[])
{
  (void) cookie;
  (void) container;
  (void) path;
  _exit (crun_qemu_exec ((const char *const *) argv, (const char *const *) environ));
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
