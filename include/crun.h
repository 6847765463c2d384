/* crun's plugin ABI: the little of it that this plugin touches, in our own words.
 *
 * crun has no installed header for handlers and no version field in their table. What stands here is what the headers of
 * crun 1.8.1 to 1.27.1 say on 64-bit machines (tests/abi/layouts); 1.28 runs with it. It has changed twice in that time,
 * and src/crun/layout.rs lists the layouts. Every struct is a prefix of crun's, except where it says "complete"; nothing
 * here may be allocated by its sizeof. None of it is believed at run time: src/crun proves it against the container's
 * config.json before the first write.
 */
#ifndef CRUN_QEMU_CRUN_H
#define CRUN_QEMU_CRUN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Complete. Both the struct and msg are malloc'ed by the handler and freed by crun. With status 0 crun prints msg
 * alone, otherwise also strerror (status). */
struct crun_error
{
  int status;
  char *msg;
};

/* The command's context. crun has made bundle absolute; in update it is ".". */
struct crun_context
{
  const char *state_root;
  const char *id;
  const char *bundle;
};

/* root: whether readonly was present in the JSON is stored behind it, at different places; nobody asks. */
struct crun_root
{
  char *path;
  unsigned char readonly;
};

struct crun_process
{
  char **args;
  size_t args_len;
  char *command_line;
  void *console_size;
  char *cwd;
  char **env;
  size_t env_len;
};

/* Complete. A new one is made larger and zeroed, for what later versions may append. */
struct crun_mount
{
  char *source;
  char *destination;
  char **options;
  size_t options_len;
  char *type;
  void **uid_mappings;
  size_t uid_mappings_len;
  void **gid_mappings;
  size_t gid_mappings_len;
  void *residual;
};

/* Device cgroup rule, complete, up to 1.8.4: each "was present in the JSON" bit follows its field. */
struct crun_device_rule_interleaved
{
  unsigned char allow;
  unsigned char allow_present;
  char *type;
  int64_t major;
  unsigned char major_present;
  int64_t minor;
  unsigned char minor_present;
  char *access;
  void *residual;
};

/* Device cgroup rule, complete, from 1.8.5 on: all "present" bits at the end, lowest first: allow, major, minor. */
struct crun_device_rule_trailing
{
  unsigned char allow;
  char *type;
  int64_t major;
  int64_t minor;
  char *access;
  void *residual;
  unsigned char present;
};

/* Complete, up to 1.8.4. */
struct crun_memory_interleaved
{
  int64_t kernel;
  unsigned char kernel_present;
  int64_t kernel_tcp;
  unsigned char kernel_tcp_present;
  int64_t limit;
  unsigned char limit_present;
  int64_t reservation;
  unsigned char reservation_present;
  int64_t swap;
  unsigned char swap_present;
  uint64_t swappiness;
  unsigned char swappiness_present;
  unsigned char disable_oom_killer;
  unsigned char disable_oom_killer_present;
  unsigned char use_hierarchy;
  unsigned char use_hierarchy_present;
  unsigned char check_before_update;
  unsigned char check_before_update_present;
  void *residual;
};

/* Complete, from 1.8.5 on: the "present" bits are in the order of the fields, that of check_before_update is in the second
 * byte. */
struct crun_memory_trailing
{
  int64_t kernel;
  int64_t kernel_tcp;
  int64_t limit;
  int64_t reservation;
  int64_t swap;
  uint64_t swappiness;
  unsigned char disable_oom_killer;
  unsigned char use_hierarchy;
  unsigned char check_before_update;
  void *residual;
  unsigned char present[2];
};

/* Complete. */
struct crun_map
{
  char **keys;
  char **values;
  size_t len;
};

/* devices points to rules, memory to limits in one of the two layouts above. */
struct crun_resources
{
  struct crun_map *unified;
  void **devices;
  size_t devices_len;
  void *pids;
  void *block_io;
  void *cpu;
  void **hugepage_limits;
  size_t hugepage_limits_len;
  void *memory;
  void *network;
};

/* A device that crun makes in the container. */
struct crun_device
{
  char *type;
  char *path;
};

/* The rest is laid out in either of the ways below. */
struct crun_linux
{
  struct crun_device **devices;
  size_t devices_len;
};

/* Up to 1.21. */
struct crun_linux_without_net_devices
{
  struct crun_linux common;
  void **uid_mappings;
  size_t uid_mappings_len;
  void **gid_mappings;
  size_t gid_mappings_len;
  void **namespaces;
  size_t namespaces_len;
  struct crun_resources *resources;
  char *cgroups_path;
};

/* From 1.22 on. */
struct crun_linux_with_net_devices
{
  struct crun_linux common;
  void *net_devices;
  void **uid_mappings;
  size_t uid_mappings_len;
  void **gid_mappings;
  size_t gid_mappings_len;
  void **namespaces;
  size_t namespaces_len;
  struct crun_resources *resources;
  char *cgroups_path;
};

/* The parsed config.json. `crun update` hands over one in which all but linux is NULL. The member is not called
 * `linux`: some compilers predefine that word. */
struct crun_config
{
  char *oci_version;
  void *hooks;
  void *annotations;
  char *hostname;
  char *domainname;
  struct crun_mount **mounts;
  size_t mounts_len;
  struct crun_root *root;
  struct crun_process *process;
  struct crun_linux *linux_;
};

struct crun_container
{
  struct crun_config *container_def;
  uid_t host_uid;
  gid_t host_gid;
  uid_t container_uid;
  gid_t container_gid;
};

/* Phases of configure_container. 1.29.1 also has 4, before the user namespace. */
enum crun_phase
{
  CRUN_PHASE_BEFORE_MOUNTS = 1,
  CRUN_PHASE_AFTER_MOUNTS = 2,
  CRUN_PHASE_MOUNTS = 3,
};

/* The handler's table: crun reads it in place, as long as the plugin is loaded. Members in this order since 1.8.1;
 * close_fds came with 1.27.1. Whatever is appended next must read as NULL, hence the padding. unload is called without
 * a look whether it is there. */
struct crun_handler
{
  const char *name;
  const char *feature_string;
  const char *alias;
  int (*load) (void **cookie, struct crun_error **err);
  int (*unload) (void *cookie, struct crun_error **err);
  int (*run_func) (void *cookie, struct crun_container *container, const char *path, char *const argv[]);
  int (*exec_func) (void *cookie, struct crun_container *container, const char *path, char *const argv[]);
  int (*configure_container) (void *cookie, enum crun_phase phase, struct crun_context *context,
                              struct crun_container *container, const char *rootfs, struct crun_error **err);
  int (*can_handle_container) (struct crun_container *container, struct crun_error **err);
  int (*modify_oci_configuration) (void *cookie, struct crun_context *context, struct crun_config *def,
                                   struct crun_error **err);
  int (*close_fds) (void *cookie, struct crun_container *container, int preserve_fds, struct crun_error **err);
  void *padding[16];
};

#endif
