#!/bin/sh
# Two hundred agents at once, over a restart of the service that keeps them, then as many in turn, through the whole of
# `agents` and the ledger; runs as the job of `octant up`. What they took is given back: descriptors of PID 1 and the services.
set -eu
sleeper=$1
quick=$2
field() { tr '{' '\n' | sed -n "$1"; }
pids() { octant status --json | field 's/.*"name":"\(ledger\|agents\|spawner\)".*"pid":\([0-9]*\).*/\2/p'; }
descriptors() { for pid in 1 $(pids); do ls "/proc/$pid/fd" | wc -l; done | tr '\n' ' '; }
# Whether any of them has more than before. Connections between services come and go by ones, over a restart too, and the
# spawner keeps up to eight maps of owners; what agents leave behind comes by hundreds.
grown() {
  now=$1
  for then in $before; do
    [ "${now%% *}" -le $((then + 12)) ] || return 0
    now=${now#* }
  done
  return 1
}
running() { octant agent list --json | field 's/.*"aid":"\(agent-[0-9a-z]*\)".*"state":"running".*/\1/p'; }
turns() { # how many
  i=0
  while [ $i -lt "$1" ]; do
    octant agent spawn --wait "$quick" > /dev/null
    i=$((i + 1))
  done
}
# As many as are kept after their end, so that what is kept of them is the same before and after.
turns 5
before=$(descriptors)
i=0
while [ $i -lt 200 ]; do
  octant agent spawn "$sleeper" > /dev/null
  i=$((i + 1))
done
[ "$(running | wc -l)" = 200 ] || { echo "$(running | wc -l) run"; exit 1; }
octant service restart agents
octant health
running > "$3"
[ "$(wc -l < "$3")" = 200 ] || { echo "$(wc -l < "$3") run after the restart"; exit 1; }
while read -r agent; do octant agent kill "$agent" > /dev/null; done < "$3"
[ -z "$(running)" ] || { echo "still running: $(running)"; exit 1; }
turns 200
after=$(descriptors)
grown "$after" && { echo "descriptors of PID 1 and the services: $before before, $after after"; exit 1; }
octant health
octant ledger verify
echo "four hundred agents came and went"
