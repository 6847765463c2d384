/* Answers every datagram with the sender's address and the datagram. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int
main (int argc, char **argv)
{
  struct sockaddr_in own = { .sin_family = AF_INET }, from;
  int fd = socket (AF_INET, SOCK_DGRAM, 0);

  own.sin_port = htons (argc > 1 ? atoi (argv[1]) : 0);
  if (fd < 0 || bind (fd, (struct sockaddr *) &own, sizeof own) < 0)
    return 1;
  for (;;)
    {
      char datagram[2048], answer[2100];
      socklen_t size = sizeof from;
      ssize_t n = recvfrom (fd, datagram, sizeof datagram, 0, (struct sockaddr *) &from, &size);

      if (n < 0)
        continue;
      int length = snprintf (answer, sizeof answer, "%s %.*s", inet_ntoa (from.sin_addr), (int) n, datagram);
      sendto (fd, answer, length, 0, (struct sockaddr *) &from, size);
    }
}
