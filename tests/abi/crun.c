/* Plays crun: crun PLUGIN BUNDLE ROOT. BUNDLE/config.json must have the content that parse() returns, with ROOT.
 * crun PLUGIN: the plugin's core is missing; prints the plugin's error. */
#include <dlfcn.h>

#include "host.h"

static int
modify (struct crun_context *context, struct crun_config *def, const char *want)
{
  struct crun_error *err = NULL;
  int ret = handler->modify_oci_configuration (NULL, context, def, &err);

  CHECK ((ret < 0) == (err != NULL));
  if (err)
    {
      int as_expected = want && err->status == 0 && strncmp (err->msg, "qemu: ", 6) == 0 && !strchr (err->msg, '\n')
                      && (strstr (err->msg, "unknown layout") != NULL) == (strcmp (want, "layout") == 0);
      if (!as_expected)
        fprintf (stderr, "%s\n", err->msg);
      CHECK (as_expected);
      free (err->msg);
      free (err);
    }
  /* The caller may pass no place for an error. */
  CHECK ((handler->modify_oci_configuration (NULL, context, def, NULL) < 0) == (ret < 0));
  return ret;
}

static void
modifications (struct crun_context *context, char *root)
{
  struct crun_config update = { 0 };

  CHECK (modify (NULL, NULL, NULL) == 0);
  CHECK (modify ((struct crun_context *) 8, &update, "layout") < 0);

  for (enum layout layout = 0; layout < LAYOUTS; layout++)
    {
      struct crun_context nothing = { 0 };
      struct parsed p, before;

      /* The layout is verified, so that only the missing image prevents the modification. */
      parse (&p, root, layout);
      before = p;
      CHECK (modify (context, &p.config, "image") < 0);
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);
      CHECK (modify (NULL, &p.config, "context") < 0);
      CHECK (modify (&nothing, &p.config, "layout") < 0);

      /* Shifts all words from each place on, as if a member had been inserted: no crash and no write. */
      for (size_t at = 0; at < sizeof (struct crun_config) / sizeof (void *); at++)
        {
          struct { char *one_more; void *words[sizeof (struct crun_config) / sizeof (void *)]; } shifted = { 0 }, copy;
          memcpy (shifted.words, &p.config, sizeof (p.config));
          memmove (&shifted.words[at], (char *) &p.config + at * sizeof (void *),
                   sizeof (p.config) - at * sizeof (void *));
          shifted.one_more = "1.0.2";
          copy = shifted;
          CHECK (modify (context, (struct crun_config *) &shifted, "layout") < 0);
          CHECK (memcmp (&shifted, &copy, sizeof (shifted)) == 0);
        }

      /* Missing or different limits. */
      p.resources.memory = NULL;
      CHECK (modify (context, &p.config, "layout") < 0);
      p.resources.memory = &p.rules;
      CHECK (modify (context, &p.config, "layout") < 0);
      p.resources.memory = before.resources.memory;
      p.value[0] = "500000001";
      CHECK (modify (context, &p.config, "layout") < 0);
      p.value[0] = "500000000";
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);

      /* An invalid pointer to the device rule. */
      p.rules[0] = (void *) 8;
      before = p;
      CHECK (modify (context, &p.config, "layout") < 0);
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);
    }
  CHECK (modify (context, (struct crun_config *) 8, "layout") < 0);

  /* An update of a container without a state directory. */
  struct parsed p;
  parse (&p, root, NEWEST);
  update.linux_ = &p.linux_.common;
  CHECK (modify (context, &update, "layout") < 0);
  CHECK (p.memory_trailing.limit == 536870912);
}

static void
phases (struct crun_context *context, char *root)
{
  struct crun_container other = { .container_uid = 1000, .container_gid = 1001 };
  struct crun_error *err = NULL;
  struct parsed p;

  parse (&p, root, NEWEST);
  CHECK (modify (context, &p.config, "image") < 0);
  for (int phase = 0; phase < 6; phase++)
    {
      struct crun_container container = { .container_def = &p.config, .host_uid = 7, .host_gid = 8,
                                          .container_uid = 1000, .container_gid = 1001 };
      int first = phase == CRUN_PHASE_BEFORE_MOUNTS;

      /* Without a VM there is no network to set up. */
      CHECK (handler->configure_container (NULL, phase, context, &container, "/", &err) == 0 && err == NULL);
      CHECK (container.container_uid == (first ? 0 : 1000) && container.container_gid == (first ? 0 : 1001));
      CHECK (container.host_uid == 7 && container.host_gid == 8);
      if (!first)
        CHECK (handler->configure_container (NULL, phase, NULL, NULL, NULL, NULL) == 0);
    }

  CHECK (handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, context, &other, "/", &err) < 0);
  CHECK (err && strstr (err->msg, "unknown layout") && other.container_uid == 1000);
  free (err->msg);
  free (err);
  CHECK (handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, NULL, NULL, NULL, NULL) < 0);
}

/* Calls a function that becomes another process, without success: stderr has the line WANT, and the status is STATUS. */
static void
fails (int (*func) (void *, struct crun_container *, const char *, char *const[]), char *const argv[], const char *want,
       int status)
{
  char got[1024];

  CHECK (status_of (func, argv, got, sizeof (got)) == status);
  CHECK (strlen (got) == strlen (want) + 1);
  CHECK (strncmp (got, want, strlen (want)) == 0 && got[strlen (want)] == '\n');
}

/* Every function fails, with an error or with a line and a status. */
static void
without_core (struct crun_context *context)
{
  struct crun_config update = { 0 };
  struct crun_container container = { 0 };
  struct crun_error *err = NULL;
  void *cookie = &cookie;

  CHECK (handler->modify_oci_configuration (NULL, context, &update, NULL) < 0);
  CHECK (handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, context, &container, "/", NULL) < 0);
  CHECK (handler->load (&cookie, &err) < 0 && cookie == NULL && err != NULL);
  puts (err->msg);
  fails (handler->run_func, NULL, err->msg, 126);
  fails (handler->exec_func, NULL, err->msg, 126);
  free (err->msg);
  free (err);
}

int
main (int argc, char **argv)
{
  /* The supervisor is not installed at this path here. */
  static const char missing[] = "qemu: /crun-qemu/crun-qemu-init: No such file or directory";
  struct crun_context context = { .id = "abc" };
  char *words[] = { "root", "true", NULL };
  struct crun_handler *(*get) (void);
  void *so, *cookie = &cookie;

  CHECK (argc == 2 || argc == 4);
  so = dlopen (argv[1], RTLD_NOW);
  if (so == NULL)
    fprintf (stderr, "%s\n", dlerror ());
  CHECK (so != NULL);
  *(void **) &get = dlsym (so, "run_oci_handler_get_handler");
  CHECK (get != NULL);
  handler = get ();
  CHECK (handler && strcmp (handler->name, "qemu") == 0 && strcmp (handler->feature_string, "QEMU") == 0);
  CHECK (handler->alias == NULL && handler->can_handle_container == NULL && handler->close_fds == NULL);
  for (size_t i = 0; i < sizeof (handler->padding) / sizeof (void *); i++)
    CHECK (handler->padding[i] == NULL);

  if (argc == 2)
    {
      without_core (&context);
      return 0;
    }
  context.bundle = argv[2];
  CHECK (handler->load (&cookie, NULL) == 0 && cookie == NULL);
  modifications (&context, argv[3]);
  phases (&context, argv[3]);
  fails (handler->run_func, words, missing, 127);
  fails (handler->run_func, NULL, missing, 127);
  fails (handler->exec_func, words, missing, 127);
  fails (handler->exec_func, NULL, missing, 127);
  CHECK (handler->unload (cookie, NULL) == 0);
  CHECK (dlclose (so) == 0);
  puts ("done");
  return 0;
}
