/* Checks that fsynced data is durable.
 *
 * durable write FIRST FILE...   writes record after record to every file, and prints the number of each record that was fsynced
 *                               in all of them
 * durable check COUNT FILE...   checks that all records below COUNT are there; prints how many there are
 *
 * The content of a record follows from its number and from the file's place in the list. A regular file contains the records
 * one after the other; on a block device each record goes into a new cluster as long as there is one. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 512, STRIDE = 64 << 10 };

static void record (uint64_t *words, uint64_t n, uint64_t file)
{
  uint64_t state = (n + 1) * 0x9e3779b97f4a7c15u ^ (file + 1) << 32;
  for (int i = 0; i < SIZE / 8; i++)
    {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      words[i] = i == 0 ? n : state;
    }
}

static off_t place (int fd, uint64_t n)
{
  struct stat st;
  off_t clusters;
  if (fstat (fd, &st) < 0 || ! S_ISBLK (st.st_mode))
    return n * SIZE;
  clusters = lseek (fd, 0, SEEK_END) / STRIDE;
  return n % clusters * STRIDE + n / clusters * SIZE;
}

static void fail (const char *what)
{
  perror (what);
  exit (1);
}

int main (int argc, char **argv)
{
  uint64_t want[SIZE / 8], got[SIZE / 8], n, least = UINT64_MAX;
  int fds[16], files = argc - 3, write_them = argc > 3 && strcmp (argv[1], "write") == 0;
  if (files < 1 || files > 16)
    return 2;
  for (int i = 0; i < files; i++)
    if ((fds[i] = open (argv[3 + i], (write_them ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0600)) < 0)
      fail (argv[3 + i]);
  n = strtoull (argv[2], NULL, 10);
  if (write_them)
    for (;; n++)
      {
        char line[32];
        for (int i = 0; i < files; i++)
          {
            record (want, n, i);
            if (pwrite (fds[i], want, SIZE, place (fds[i], n)) != SIZE)
              fail ("write");
          }
        for (int i = 0; i < files; i++)
          if (fsync (fds[i]) < 0)
            fail ("fsync");
        if (write (1, line, sprintf (line, "%llu\n", (unsigned long long) n)) < 0)
          return 0;
      }
  for (int i = 0; i < files; i++)
    {
      uint64_t m;
      for (m = 0;; m++)
        {
          record (want, m, i);
          if (pread (fds[i], got, SIZE, place (fds[i], m)) != SIZE || memcmp (want, got, SIZE) != 0)
            break;
        }
      if (m < n)
        {
          printf ("%s: record %llu of %llu is lost\n", argv[3 + i], (unsigned long long) m, (unsigned long long) n);
          return 1;
        }
      least = m < least ? m : least;
    }
  printf ("%llu\n", (unsigned long long) least);
  return 0;
}
