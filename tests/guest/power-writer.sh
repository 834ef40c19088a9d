#!/bin/sh
# The job of the boot that loses its power: agents that write notes, their logs on the console, and with them each newest
# checkpoint, whole on one line.
for agent in 1 2 3 4 5 6; do
  aid=$(octant agent spawn /srv/test/writer.signed.json --json | sed -n 's/.*"aid":"\(agent-[0-9a-z]*\)".*/\1/p' | head -n 1)
  octant agent logs --follow "$aid" &
done
while sleep 1; do
  echo "checkpoint $(octant ledger checkpoint | base64 -w 0)"
done
