/* Converts a line of text to crun's error. */
#include "error.h"

#include <stdlib.h>

int
fail (struct crun_error **err, char *msg)
{
  struct crun_error *e;

  if (err == NULL || msg == NULL)
    {
      free (msg);
      return -1;
    }

  e = calloc (1, sizeof (*e));
  if (e == NULL)
    free (msg);
  else
    e->msg = msg;
  *err = e;
  return -1;
}
