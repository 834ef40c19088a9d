#!/bin/sh
# Runs as an agent: posts numbered notes until the power is cut, and says each that the ledger has acknowledged.
i=0
while [ $i -lt 100000 ]; do
  i=$((i + 1))
  octant note "note $i" > /dev/null && echo "acknowledged $i"
done
