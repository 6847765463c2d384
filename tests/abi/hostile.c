/* Plays a crun that calls the plugin wrongly: hostile BUNDLE ROOT. BUNDLE/config.json must have the content that parse()
 * returns, with ROOT. The program contains the handler and its core, so that the sanitizers see every access. */
#include <limits.h>
#include <sys/mman.h>

#include "host.h"
#include "rust_api.h"

/* Number of times that a struct is damaged, in each layout. */
#define DAMAGED 3000

struct crun_handler *run_oci_handler_get_handler (void);

const struct rust_api *
load_rust_api (char **msg)
{
  (void) msg;
  return crun_qemu_core ();
}

/* Pseudorandom numbers, the same in every run. */
static uint64_t
next (void)
{
  static uint64_t state = 0x9e3779b97f4a7c15;

  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state >> 11;
}

/* The end of a page before an unmapped page, so that a read beyond the end faults. */
static char *
page_end (void)
{
  static char *end;
  long page = sysconf (_SC_PAGESIZE);

  if (end == NULL)
    {
      char *two = mmap (NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      CHECK (two != MAP_FAILED && mprotect (two + page, page, PROT_NONE) == 0);
      /* No terminating zero. */
      memset (two, 'x', page);
      end = two + page;
    }
  return end;
}

/* A word that is wrong as a pointer, a length and a flag. */
static uint64_t
odd_word (struct parsed *p)
{
  static char not_utf8[] = "\xff\xfe\xc0";
  static uint64_t loop[8];

  loop[next () % 8] = (uint64_t) loop;
  switch (next () % 14)
    {
    case 0: return 0;
    case 1: return 1;
    case 2: return 8;
    case 3: return UINT64_MAX;
    case 4: return INT64_MAX;
    case 5: return (uint64_t) 1 << 61;
    case 6: return next () % 100;
    case 7: return next () << 11;
    case 8: return (uint64_t) page_end () - 1 - next () % 64;
    case 9: return (uint64_t) page_end ();
    case 10: return (uint64_t) not_utf8;
    case 11: return (uint64_t) loop;
    case 12: return (uint64_t) p + next () % sizeof (*p);
    default: return ((uint64_t *) p)[next () % (sizeof (*p) / 8)];
    }
}

/* A call succeeded, or failed with one line, which is freed. */
static void
check_result (int ret, struct crun_error *err)
{
  CHECK ((ret < 0) == (err != NULL));
  if (err == NULL)
    return;
  if (strncmp (err->msg, "qemu: ", 6) != 0 || strpbrk (err->msg, "\n\r\033"))
    fprintf (stderr, "%s\n", err->msg);
  CHECK (strncmp (err->msg, "qemu: ", 6) == 0 && strpbrk (err->msg, "\n\r\033") == NULL);
  free (err->msg);
  free (err);
}

/* Garbage at any place causes no crash and no write. */
static void
damaged_structs (struct crun_context *context, char *root)
{
  for (int i = 0; i < 2 * DAMAGED; i++)
    {
      struct parsed p, before;
      struct crun_error *err = NULL;
      int ret;

      parse (&p, root, i % 2);
      for (uint64_t changes = 1 + next () % 4; changes > 0; changes--)
        ((uint64_t *) &p)[next () % (sizeof (p) / 8)] = odd_word (&p);
      before = p;
      ret = handler->modify_oci_configuration (NULL, context, &p.config, &err);
      check_result (ret, err);
      CHECK (memcmp (&p, &before, sizeof (p)) == 0);
    }
  /* Structs of garbage, and structs at the end of a page. */
  for (int i = 0; i < DAMAGED; i++)
    {
      uint64_t words[sizeof (struct parsed) / 8], before[sizeof (words) / 8];
      struct crun_error *err = NULL;
      int ret;

      for (size_t w = 0; w < sizeof (words) / 8; w++)
        words[w] = odd_word ((struct parsed *) words);
      memcpy (before, words, sizeof (words));
      ret = handler->modify_oci_configuration (NULL, context, (struct crun_config *) words, &err);
      check_result (ret, err);
      CHECK (memcmp (words, before, sizeof (words)) == 0);
    }
  for (size_t room = 0; room <= sizeof (struct crun_config); room += 8)
    {
      struct crun_error *err = NULL;
      char *at = page_end () - room;
      int ret;

      memset (at, 0, room);
      ret = handler->modify_oci_configuration (NULL, context, (struct crun_config *) at, &err);
      check_result (ret, err);
      memset (at, 'x', room);
    }
}

/* All kinds of strings in the context. */
static void
odd_contexts (char *bundle, char *root)
{
  static char huge[1 << 20];
  char *nested = malloc (strlen (bundle) + 64);
  struct parsed p;

  CHECK (nested);
  sprintf (nested, "%s/../%s/./", bundle, strrchr (bundle, '/') + 1);
  memset (huge, 'a', sizeof (huge) - 1);
  huge[0] = '/';
  const char *strings[] = { "", "/", "relative", "\xff\xfe", "/a\nb\033[2J", huge, nested, bundle, "/dev/null", "/proc/self/mem" };
  size_t n = sizeof (strings) / sizeof (*strings);
  parse (&p, root, 0);
  for (size_t i = 0; i < n * n * n; i++)
    {
      struct crun_context context = { .state_root = strings[i % n], .id = strings[i / n % n],
                                      .bundle = strings[i / n / n] };
      struct parsed update = { 0 };
      struct crun_container container = { .container_uid = 5 };
      struct crun_error *err = NULL;
      int ret;

      ret = handler->modify_oci_configuration (NULL, &context, &p.config, &err);
      check_result (ret, err);
      if (i % 7)
        continue;
      err = NULL;
      ret = handler->modify_oci_configuration (NULL, &context, &update.config, &err);
      check_result (ret, err);
      err = NULL;
      ret = handler->configure_container (NULL, CRUN_PHASE_BEFORE_MOUNTS, &context, &container, NULL, &err);
      check_result (ret, err);
    }
  free (nested);
}

/* In the wrong order, twice, without the calls before, and without a place for the error. */
static void
out_of_order (struct crun_context *context, char *root)
{
  static const int phases[] = { INT_MIN, -1, 0, 2, 3, 4, 5, INT_MAX };
  struct parsed p;

  parse (&p, root, 1);
  CHECK (handler->unload (&p, NULL) == 0);
  for (int again = 0; again < 3; again++)
    {
      void *cookie = &p;
      struct crun_error *err = NULL;

      for (size_t i = 0; i < sizeof (phases) / sizeof (*phases); i++)
        CHECK (handler->configure_container (&p, phases[i], NULL, NULL, NULL, NULL) == 0);
      CHECK (handler->modify_oci_configuration (&p, context, &p.config, NULL) < 0);
      CHECK (handler->modify_oci_configuration (&p, NULL, &p.config, NULL) < 0);
      CHECK (handler->modify_oci_configuration (&p, NULL, NULL, NULL) == 0);
      CHECK (handler->load (NULL, NULL) == 0 && handler->load (&cookie, &err) == 0 && cookie == NULL && err == NULL);
      CHECK (handler->unload (cookie, &err) == 0 && handler->unload (NULL, NULL) == 0 && err == NULL);
    }
}

/* Functions that become another process, with arguments that no process can have: they fail with a line and a status. */
static void
odd_words (void)
{
  static char *many[100001], long_word[1 << 20];
  char *none[] = { NULL }, *odd[] = { "", "\xff\n", "-c", "\033[2J", NULL }, *one[] = { long_word, NULL };
  char *const *argvs[] = { NULL, none, odd, one, many };

  memset (long_word, 'a', sizeof (long_word) - 1);
  for (size_t i = 0; i + 1 < sizeof (many) / sizeof (*many); i++)
    many[i] = "word";
  for (size_t i = 0; i < 2 * sizeof (argvs) / sizeof (*argvs); i++)
    {
      char got[4096];
      int status = status_of (i % 2 ? handler->run_func : handler->exec_func, argvs[i / 2], got, sizeof (got));

      if (status != 126 && status != 127)
        fprintf (stderr, "%d: %s\n", status, got);
      CHECK (strncmp (got, "qemu: ", 6) == 0);
      CHECK (status == 126 || status == 127);
    }
}

int
main (int argc, char **argv)
{
  struct crun_context context = { .id = "abc" };

  CHECK (argc == 3);
  context.bundle = argv[1];
  handler = run_oci_handler_get_handler ();
  out_of_order (&context, argv[2]);
  odd_contexts (argv[1], argv[2]);
  damaged_structs (&context, argv[2]);
  odd_words ();
  puts ("done");
  return 0;
}
