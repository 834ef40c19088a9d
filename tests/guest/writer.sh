#!/bin/sh
# Runs as an agent: posts notes, as long as notes can be, until the power is cut, and says of each which entry of the
# ledger it has become.
pad=$(printf '%04000d' 0)
while :; do
  if said=$(octant note "$pad" 2> /dev/null); then
    echo "acknowledged ${said##* }"
  else
    # An agent has so many notes a second and no more.
    sleep 0.2
  fi
done
