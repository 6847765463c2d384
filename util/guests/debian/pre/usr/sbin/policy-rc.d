#!/bin/sh
# No service is started while the tree is made.
exit 101
