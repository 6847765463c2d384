/* Prints the layout of crun's structs: offset and size in bytes of each member, the size of each struct, byte and bit of each
 * "present in the JSON" bit. Compiled against the headers of crun's source tree by util/crun-facts.sh. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <libcrun/container.h>
#include <libcrun/custom-handler.h>
#include <libcrun/error.h>
#include <ocispec/runtime_spec_schema_config_schema.h>

#define SIZE(name, type) printf ("%s %zu\n", name, sizeof (type))
#define MEMBER(name, type, member)                                                                                     \
  printf ("%s.%s %zu %zu\n", name, #member, offsetof (type, member), sizeof (((type *) NULL)->member))
#define BIT(name, type, member)                                                                                        \
  do                                                                                                                   \
    {                                                                                                                  \
      union                                                                                                            \
      {                                                                                                                \
        type value;                                                                                                    \
        unsigned char bytes[sizeof (type)];                                                                            \
      } u;                                                                                                             \
      memset (&u, 0, sizeof (u));                                                                                      \
      u.value.member##_present = 1;                                                                                    \
      for (size_t i = 0; i < sizeof (type) * 8; i++)                                                                   \
        if (u.bytes[i / 8] >> (i % 8) & 1)                                                                             \
          printf ("%s.%s? %zu.%zu\n", name, #member, i / 8, i % 8);                                                    \
    }                                                                                                                  \
  while (0)

typedef runtime_spec_schema_config_schema their_config;
typedef runtime_spec_schema_config_schema_root their_root;
typedef runtime_spec_schema_config_schema_process their_process;
typedef runtime_spec_schema_config_linux their_linux;
typedef runtime_spec_schema_config_linux_resources their_resources;
typedef runtime_spec_schema_config_linux_resources_memory their_memory;
typedef runtime_spec_schema_defs_mount their_mount;
typedef runtime_spec_schema_defs_linux_device their_device;
typedef runtime_spec_schema_defs_linux_device_cgroup their_device_rule;
typedef json_map_string_string their_map;
typedef struct libcrun_container_s their_container;
typedef struct libcrun_context_s their_context;
typedef struct libcrun_error_s their_error;
typedef struct custom_handler_s their_handler;

int
main (void)
{
#define M(member) MEMBER ("config", their_config, member)
  M (oci_version), M (hooks), M (annotations), M (hostname), M (domainname), M (mounts), M (mounts_len), M (root);
  M (process), M (linux);
#undef M
#define M(member) MEMBER ("root", their_root, member)
  M (path), M (readonly);
#undef M
#define M(member) MEMBER ("process", their_process, member)
  M (args), M (args_len), M (command_line), M (console_size), M (cwd), M (env), M (env_len);
#undef M
#define M(member) MEMBER ("mount", their_mount, member)
  SIZE ("mount", their_mount);
  M (source), M (destination), M (options), M (options_len), M (type), M (uid_mappings), M (uid_mappings_len);
  M (gid_mappings), M (gid_mappings_len);
#undef M
#define M(member) MEMBER ("linux", their_linux, member)
  M (devices), M (devices_len), M (uid_mappings), M (uid_mappings_len), M (gid_mappings), M (gid_mappings_len);
  M (namespaces), M (namespaces_len), M (resources), M (cgroups_path);
#undef M
#define M(member) MEMBER ("device", their_device, member)
  M (type), M (path);
#undef M
#define M(member) MEMBER ("resources", their_resources, member)
  M (unified), M (devices), M (devices_len), M (pids), M (block_io), M (cpu), M (hugepage_limits);
  M (hugepage_limits_len), M (memory), M (network);
#undef M
#define M(member) MEMBER ("map", their_map, member)
  SIZE ("map", their_map);
  M (keys), M (values), M (len);
#undef M
#define M(member) MEMBER ("device_rule", their_device_rule, member)
#define B(member) BIT ("device_rule", their_device_rule, member)
  SIZE ("device_rule", their_device_rule);
  M (allow), M (type), M (major), M (minor), M (access);
  B (allow);
  B (major);
  B (minor);
#undef M
#undef B
#define M(member) MEMBER ("memory", their_memory, member)
#define B(member) BIT ("memory", their_memory, member)
  SIZE ("memory", their_memory);
  M (kernel), M (kernel_tcp), M (limit), M (reservation), M (swap), M (swappiness), M (disable_oom_killer);
  M (use_hierarchy), M (check_before_update);
  B (kernel);
  B (kernel_tcp);
  B (limit);
  B (reservation);
  B (swap);
  B (swappiness);
  B (disable_oom_killer);
  B (use_hierarchy);
  B (check_before_update);
#undef M
#undef B
#define M(member) MEMBER ("container", their_container, member)
  M (container_def), M (host_uid), M (host_gid), M (container_uid), M (container_gid);
#undef M
#define M(member) MEMBER ("context", their_context, member)
  M (state_root), M (id), M (bundle);
#undef M
#define M(member) MEMBER ("error", their_error, member)
  SIZE ("error", their_error);
  M (status), M (msg);
#undef M
#define M(member) MEMBER ("handler", their_handler, member)
  M (name), M (feature_string), M (alias), M (load), M (unload), M (run_func), M (exec_func);
  M (configure_container), M (can_handle_container), M (modify_oci_configuration);
  return 0;
}
