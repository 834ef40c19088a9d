#!/bin/sh
# Runs as an agent with 32 MiB of memory: holds 200 MiB of zeros in one process.
head -c 200000000 /dev/zero | tail -n 1 | wc -c
