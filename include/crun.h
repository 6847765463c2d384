/* crun's plugin ABI: our own declaration of the part that this plugin uses.
 *
 * crun installs no header for handlers, and a handler's table has no version field. The declarations match the headers of
 * crun 1.8.1 to 1.27.1 on 64-bit machines (tests/abi/layouts); 1.28 works with them too. The structs have changed twice in
 * that time; src/crun/layout/ lists the layouts. Each struct is a prefix of crun's, unless its comment says "complete".
 * Only crun_error may be allocated by its sizeof. At run time nothing here is assumed to be right: before the first write
 * to a configuration or a container, src/crun/verify.rs and src/crun/context.rs compare them with the container's
 * config.json; an update has no config.json, so src/crun/update.rs edits it only if its limits can be read in one way.
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

/* The context of one crun command. bundle is absolute, except in update, where it is ".". */
struct crun_context
{
  const char *state_root;
  const char *id;
  const char *bundle;
};

/* root. crun stores behind it whether readonly was present in the JSON, at different places; we do not read that. */
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

/* Complete. A new mount is allocated larger and zeroed, for members that later versions may append. */
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

/* Device cgroup rule, complete, up to 1.8.4. Each bit that says "was present in the JSON" follows its member. */
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

/* Device cgroup rule, complete, from 1.8.5 on. All "present" bits are at the end, lowest first: allow, major, minor. */
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

/* Memory limits, complete, up to 1.8.4. */
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

/* Memory limits, complete, from 1.8.5 on. The "present" bits are in the order of the members; that of
 * check_before_update is in the second byte. */
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

/* A string map, complete. */
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

/* The members that both layouts of linux begin with. */
struct crun_linux
{
  struct crun_device **devices;
  size_t devices_len;
};

/* linux, up to 1.21. */
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

/* linux, from 1.22 on. */
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

/* The parsed config.json. In the one of `crun update`, every member except linux is NULL. The member is called linux_
 * because some compilers predefine the word linux. */
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

/* The handler's table. crun reads it in place as long as the plugin is loaded. The members have had this order since
 * 1.8.1; close_fds was added in 1.27.1. The padding makes members that are added later read as NULL. crun calls unload
 * without checking for NULL. */
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
