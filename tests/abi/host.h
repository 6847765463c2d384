/* Common to the programs that play crun. */
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

/* All structs of one container in one piece of memory, so that any change is found. */
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

/* The configuration of the bundle, as crun of this layout parses it. */
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

/* Calls a function that does not return, in a child: its exit status, and the start of its stderr in GOT. */
static int
status_of (int (*func) (void *, struct crun_container *, const char *, char *const[]), char *const argv[], char *got,
           size_t size)
{
  int fds[2], status;
  ssize_t length;
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
  length = read (fds[0], got, size - 1);
  CHECK (length >= 0);
  got[length] = 0;
  close (fds[0]);
  CHECK (waitpid (pid, &status, 0) == pid && WIFEXITED (status));
  return WEXITSTATUS (status);
}
