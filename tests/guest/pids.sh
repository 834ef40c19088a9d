#!/bin/sh
# Runs as an agent with few pids: starts more processes than that, bounded, and says whether the limit held.
i=0
refused=0
while [ $i -lt 100 ]; do
  sleep 3 2> /dev/null &
  [ $? = 0 ] || refused=$((refused + 1))
  i=$((i + 1))
done 2> /tmp/errors
running=$(ls /proc | grep -c '^[0-9]')
echo "running $running"
[ "$running" -lt 40 ] && echo "pids limit held"
