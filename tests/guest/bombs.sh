#!/bin/sh
# Agents that take all they can get, each beside a neighbour that works; how two that compute share the processor.
# Lines that begin with "# neighbour beside" are what the bench reads.
. /srv/test/tap.sh

# What a neighbour feels of whatever runs.
neighbour_beside() { # what
  trial neighbour
  ended=$?
  said=$(grep '^units ' $work/neighbour.log)
  echo "# neighbour beside $1: $said"
  [ $ended = 0 ] && [ -n "$said" ]
  ok $? "beside $1 no work of a neighbour fails"
  [ $ended = 0 ] || sed 's/^/# /' $work/neighbour.log
}

# Starts one and waits until it has met its limit.
bomb() { # name
  start "$1"
  bomb_agent=$agent
  bomb_leaf=$leaf
  i=0
  while ! octant agent logs "$agent" 2> /dev/null | grep -q 'at its limit' && [ $i -lt 300 ]; do
    sleep 0.2
    i=$((i + 1))
  done
  expect "$1: it meets its limit" contains_log "$agent" 'at its limit'
}
contains_log() { # agent text
  octant agent logs "$1" > $work/bomb.log 2>&1
  contains $work/bomb.log "$2"
}

neighbour_beside nothing

# --- processes ---
bomb forks
neighbour_beside "a fork bomb"
found=$(cat $bomb_leaf/pids.current)
echo "# $found processes of $(cat $bomb_leaf/pids.max)"
[ "$found" -gt 16 ] && [ "$found" -le "$(cat $bomb_leaf/pids.max)" ]
ok $? "forks: it has as many processes as it may, and no more"
end "$bomb_agent" "$bomb_leaf"

# --- memory: at memory.high it is made to wait, and lives ---
bomb swell
neighbour_beside "memory held at memory.high"
echo "# $(tr '\n' ' ' < $bomb_leaf/memory.events)"
[ "$(of $bomb_leaf/memory.events high)" -gt 0 ] && [ "$(cat $bomb_leaf/memory.current)" -le "$(cat $bomb_leaf/memory.max)" ]
ok $? "swell: memory.high has slowed it down, and it is within memory.max"
end "$bomb_agent" "$bomb_leaf"

# --- memory: at memory.max it is killed, and the next one comes ---
touch $work/again
(
  while [ -e $work/again ]; do
    octant agent spawn --wait /srv/test/eat.signed.json --json > $work/eat.part 2>&1
    cat $work/eat.part >> $work/eat
  done
  touch $work/over
) &
neighbour_beside "memory bombs, one after the other"
rm $work/again
i=0
while [ ! -e $work/over ] && [ $i -lt 100 ]; do
  sleep 0.2
  i=$((i + 1))
done
killed=$(grep -c '"signal": *9\|"code": *137' $work/eat)
echo "# $killed were killed"
[ "$killed" -gt 0 ] && ! grep -q '"code": *0' $work/eat
ok $? "eat: each is killed at memory.max"

# --- what it may write ---
bomb disk
neighbour_beside "a full disk of its own"
end "$bomb_agent" "$bomb_leaf"

# --- descriptors ---
bomb descriptors
neighbour_beside "every descriptor taken"
end "$bomb_agent" "$bomb_leaf"

# --- shares of the processor: weights of 400 and 100, two threads each on two processors ---
start heavy
heavy_agent=$agent
heavy=$leaf
start light
light_agent=$agent
light=$leaf
heavy_before=$(of $heavy/cpu.stat usage_usec)
light_before=$(of $light/cpu.stat usage_usec)
sleep 8
heavy_used=$(($(of $heavy/cpu.stat usage_usec) - heavy_before))
light_used=$(($(of $light/cpu.stat usage_usec) - light_before))
echo "# weights 400 and 100: $heavy_used and $light_used us of processor time"
[ $light_used -gt 0 ] && [ $heavy_used -gt $((light_used * 2)) ] && [ $heavy_used -lt $((light_used * 8)) ]
ok $? "two busy agents share the processor by their weights"
neighbour_beside "two busy agents"
end "$heavy_agent" "$heavy"
end "$light_agent" "$light"

expect "the machine is healthy after all of that" octant health
expect "and the ledger verifies" octant ledger verify
finish
