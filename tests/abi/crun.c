/* Plays crun: crun PLUGIN BUNDLE ROOT. ROOT and what is below must be what BUNDLE/config.json says.
 * crun PLUGIN: the plugin's core is not there, and what the plugin says of that is printed. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crun.h"

#define CHECK(what)                                                                                                    \
  do                                                                                                                   \
    if (!(what))                                                                                                       \
      {                                                                                                                \
        fprintf (stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                                    \
        exit (1);                                                                                                      \
      }                                                                                                                \
  while (0)

static struct crun_handler *handler;

/* Everything of one container, in one piece, so that a change anywhere shows. */
struct parsed
{
  struct crun_config config;
  struct crun_root root;
  struct crun_process process;
  union
  {
    struct crun_linux common;
    struct crun_linux_without_net_devices without;
    struct crun_linux_with_net_devices with;
  } linux_;
  struct crun_resources resources;
  struct crun_mount mount, *mounts[1];
  struct crun_device_rule_interleaved interleaved;
  struct crun_device_rule_trailing trailing;
  struct crun_memory_interleaved memory_interleaved;
  struct crun_memory_trailing memory_trailing;
  struct crun_map unified;
  void *rules[1];
  char *args[2], *env[2], *options[2], *key[1], *value[1];
};

enum layout
{
  BEFORE_1_8_5,
  BEFORE_1_22,
  NEWEST,
  LAYOUTS
};

static void
parse (struct parsed *p, char *root, enum layout layout)
{
  int interleaved = layout == BEFORE_1_8_5;

  memset (p, 0, sizeof (*p));
  p->args[0] = "";
  p->env[0] = "A=b";
  p->options[0] = "nosuid";
  p->mount = (struct crun_mount){ .source = "proc", .destination = "/proc", .type = "proc",
                                  .options = p->options, .options_len = 1 };
  p->mounts[0] = &p->mount;
  p->interleaved = (struct crun_device_rule_interleaved){ .allow_present = 1, .access = "rwm" };
  p->trailing = (struct crun_device_rule_trailing){ .present = 1, .access = "rwm" };
  p->rules[0] = interleaved ? (void *) &p->interleaved : (void *) &p->trailing;
  p->memory_interleaved = (struct crun_memory_interleaved){ .limit = 536870912, .limit_present = 1,
                                                            .swap = 1073741824, .swap_present = 1 };
  p->memory_trailing = (struct crun_memory_trailing){ .limit = 536870912, .swap = 1073741824, .present = { 4 | 16 } };
  p->key[0] = "memory.high";
  p->value[0] = "500000000";
  p->unified = (struct crun_map){ .keys = p->key, .values = p->value, .len = 1 };
  p->resources = (struct crun_resources){ .devices = p->rules, .devices_len = 1, .unified = &p->unified };
  p->resources.memory = interleaved ? (void *) &p->memory_interleaved : (void *) &p->memory_trailing;
  if (layout == NEWEST)
    p->linux_.with = (struct crun_linux_with_net_devices){ .namespaces_len = 6, .resources = &p->resources };
  else
    p->linux_.without = (struct crun_linux_without_net_devices){ .namespaces_len = 6, .resources = &p->resources };
  p->root.path = root;
  p->process = (struct crun_process){ .args = p->args, .args_len = 1, .cwd = "/", .env = p->env, .env_len = 1 };
  p->config = (struct crun_config){ .oci_version = "1.0.2", .mounts = p->mounts, .mounts_len = 1, .root = &p->root,
                                    .process = &p->process, .linux_ = &p->linux_.common };
}

static int
modify (struct crun_context *context, struct crun_config *def, const char *want)
{
  struct crun_error *err = NULL;
  int ret = handler->modify_oci_configuration (NULL, context, def, &err);

  CHECK ((ret < 0) == (err != NULL));
  if (err)
    {
      int as_wanted = want && err->status == 0 && strncmp (err->msg, "qemu: ", 6) == 0 && !strchr (err->msg, '\n')
                      && (strstr (err->msg, "unknown layout") != NULL) == (strcmp (want, "layout") == 0);
      if (!as_wanted)
        fprintf (stderr, "%s\n", err->msg);
      CHECK (as_wanted);
      free (err->msg);
      free (err);
    }
  /* Nobody need want the reason. */
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

      /* Proven, so that only the missing image stands in the way. */
      parse (&p, root, layout);
      before = p;
      CHECK (modify (context, &p.config, "image") < 0);
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);
      CHECK (modify (NULL, &p.config, "context") < 0);
      CHECK (modify (&nothing, &p.config, "layout") < 0);

      /* Every word of it shifted, as if a member had been put before: never a crash, never a write. */
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

      /* Limits that are not there, or others. */
      p.resources.memory = NULL;
      CHECK (modify (context, &p.config, "layout") < 0);
      p.resources.memory = &p.rules;
      CHECK (modify (context, &p.config, "layout") < 0);
      p.resources.memory = before.resources.memory;
      p.value[0] = "500000001";
      CHECK (modify (context, &p.config, "layout") < 0);
      p.value[0] = "500000000";
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);

      /* The rule in the other layout's place, or nowhere. */
      p.rules[0] = (void *) 8;
      before = p;
      CHECK (modify (context, &p.config, "layout") < 0);
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);
    }
  CHECK (modify (context, (struct crun_config *) 8, "layout") < 0);

  /* An update of a container that crun has no state of: this is not the context. */
  struct parsed p;
  parse (&p, root, NEWEST);
  update.linux_ = &p.linux_.common;
  CHECK (modify (context, &update, "layout") < 0);
  CHECK (p.memory_trailing.limit == 536870912);
}

static void
phases (struct crun_context *context, char *root)
{
  struct crun_container not_ours = { .container_uid = 1000, .container_gid = 1001 };
  struct crun_error *err = NULL;
  struct parsed p;

  parse (&p, root, NEWEST);
  CHECK (modify (context, &p.config, "image") < 0);
  for (int phase = 0; phase < 6; phase++)
    {
      struct crun_container container = { .container_def = &p.config, .host_uid = 7, .host_gid = 8,
                                          .container_uid = 1000, .container_gid = 1001 };
      int first = phase == CRUN_PHASE_BEFORE_MOUNTS;

      /* There being no VM, it has no network. */
      CHECK (handler->configure_container (NULL, phase, context, &container, "/", &err) == 0 && err == NULL);
      CHECK (container.container_uid == (first ? 0 : 1000) && container.container_gid == (first ? 0 : 1001));
      CHECK (container.host_uid == 7 && container.host_gid == 8);
      if (!first)
        CHECK (handler->configure_container (NULL, phase, NULL, NULL, NULL, NULL) == 0);
    }

  CHECK (handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, context, &not_ours, "/", &err) < 0);
  CHECK (err && strstr (err->msg, "unknown layout") && not_ours.container_uid == 1000);
  free (err->msg);
  free (err);
  CHECK (handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, NULL, NULL, NULL, NULL) < 0);
}

/* What does not come back: stderr has the line WANT, and the status is STATUS. */
static void
handover (int (*func) (void *, struct crun_container *, const char *, char *const[]), char *const argv[], const char *want,
          int status_wanted)
{
  char got[1024] = { 0 };
  int fds[2], status;
  pid_t pid;

  CHECK (pipe (fds) == 0);
  pid = fork ();
  CHECK (pid >= 0);
  if (pid == 0)
    {
      dup2 (fds[1], 2);
      func (NULL, NULL, NULL, argv);
      _exit (99);
    }
  close (fds[1]);
  CHECK (read (fds[0], got, sizeof (got) - 1) == (ssize_t) strlen (want) + 1);
  close (fds[0]);
  CHECK (strncmp (got, want, strlen (want)) == 0 && got[strlen (want)] == '\n');
  CHECK (waitpid (pid, &status, 0) == pid && WIFEXITED (status) && WEXITSTATUS (status) == status_wanted);
}

/* Every call says it in its own way: by an error, or by a line and a status. */
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
  handover (handler->run_func, NULL, err->msg, 126);
  handover (handler->exec_func, NULL, err->msg, 126);
  free (err->msg);
  free (err);
}

int
main (int argc, char **argv)
{
  /* There is no supervisor at its place here. */
  static const char nobody[] = "qemu: /crun-qemu/crun-qemu-init: No such file or directory";
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
  handover (handler->run_func, words, nobody, 127);
  handover (handler->run_func, NULL, nobody, 127);
  handover (handler->exec_func, words, nobody, 127);
  handover (handler->exec_func, NULL, nobody, 127);
  CHECK (handler->unload (cookie, NULL) == 0);
  CHECK (dlclose (so) == 0);
  puts ("done");
  return 0;
}
