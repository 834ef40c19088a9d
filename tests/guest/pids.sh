#!/bin/sh
# Runs as an agent with 32 pids: starts more processes than that, bounded, and says whether the limit held.
# They stay until the agent ends: on a slow machine some would else be gone while others are still started.
# Builtins only after that: there is no room for another process.
i=0
while [ $i -lt 60 ]; do
  sleep 3600 &
  i=$((i + 1))
done 2> /tmp/errors
refused=0
while read -r line; do
  case $line in
    *"temporarily unavailable"*) refused=$((refused + 1)) ;;
  esac
done < /tmp/errors
echo "$refused of 60 were refused"
[ $refused -gt 20 ] && [ $refused -lt 60 ] && echo "pids limit held"
