#!/bin/sh
# Keeps services from being started while the tree is made.
exit 101
