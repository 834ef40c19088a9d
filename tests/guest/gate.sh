#!/bin/sh
# The boot-to-health gate, run inside the guest as the job.
. /srv/test/tap.sh

pid_of() { # unit
  octant status --json | tr '{' '\n' | sed -n "s/.*\"name\":\"$1\".*\"pid\":\([0-9]*\).*/\1/p"
}

# --- the machine ---
expect "every unit is healthy" octant health
octant ledger query --kind boot --json > $work/boot
expect "the boot phases are in the ledger" test -s $work/boot
expect "and marked as back-filled" contains $work/boot 'backfilled'
grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts
ok $? "cgroup v2 is mounted"
grep -q memory /sys/fs/cgroup/cgroup.subtree_control
ok $? "the memory controller is delegated"
ledger=$(pid_of ledger)
grep -q '/services/ledger$' /proc/$ledger/cgroup
ok $? "a service runs in a cgroup of its own"
grep -q '^Uid:.960.960.960.960' /proc/$ledger/status
ok $? "and under a user of its own"
grep -q '^CapEff:.0000000000000000' /proc/$ledger/status
ok $? "without capabilities"
grep -q '^Seccomp:.2' /proc/$ledger/status
ok $? "behind a filter"
grep -q ' /var/lib/octant ext4 .*nosuid.*nodev\|/var/lib/octant ext4 .*nodev.*nosuid' /proc/mounts
ok $? "the data disk is mounted nosuid and nodev"

# --- the example ---
envelope=/usr/share/octant/examples/incident-report/manifest.signed.json
octant agent spawn --wait $envelope --json > $work/spawn 2> $work/spawn.err
status=$?
[ $status = 0 ] || cat $work/spawn $work/spawn.err | sed 's/^/# /'
ok $status "the signed example runs to its end"
aid=$(aid_in $work/spawn)
octant agent logs "$aid" > $work/log 2>&1
expect "its report is in its log" contains $work/log '# Incident report'
octant ledger query --kind note --json > $work/notes
expect "its note is in the ledger under its own name" contains $work/notes "$aid"
expect "the ledger verifies" octant ledger verify

# --- bad input ---
sed 's/"payload": *"..../"payload": "AAAA/' $envelope > $work/tampered.json
expect_code 7 "a tampered envelope is refused" octant agent spawn $work/tampered.json
head -c 100 $envelope > $work/cut.json
expect_code 6 "a cut envelope is refused" octant agent spawn $work/cut.json
expect_code 3 "an unknown agent is not found" octant agent show agent-00000000000000000000000000

# --- limits that only a machine with controllers can show ---
trial memory
grep -q '"signal": *9\|"code": *137' $work/memory
ok $? "a memory bomb dies inside its limit"
trial pids
expect "a fork bomb meets its limit" contains $work/pids.log 'pids limit held'
expect "and the machine is healthy after both" octant health

# --- the limits of an agent that runs, as the kernel has them ---
start limits
holds() { # file value
  found=$(cat "$leaf/$1")
  [ "$found" = "$2" ] || echo "# $leaf/$1 has $found"
  [ "$found" = "$2" ]
  ok $? "$1 of a running agent is $2"
}
holds memory.max 134217728
holds memory.high 134217728
holds memory.swap.max 0
holds memory.oom.group 1
holds pids.max 33
holds cpu.max "50000 100000"
holds cpu.weight 50
grep -q 'oom_kill 0' $leaf/memory.events
ok $? "and the memory bomb before it was not counted on it"
# Half a processor, whatever it asks for: of the hundredths of a second that pass, half and something for the rounding.
hundredths() { cut -d ' ' -f 1 /proc/uptime | tr -d .; }
before=$(of $leaf/cpu.stat usage_usec)
since=$(hundredths)
sleep 3
after=$(of $leaf/cpu.stat usage_usec)
passed=$(($(hundredths) - since))
used=$(((after - before) / 10000))
echo "# $used of $passed hundredths of a second"
[ $used -gt 0 ] && [ $((used * 10)) -lt $((passed * 7)) ] && [ "$(of $leaf/cpu.stat nr_throttled)" -gt 0 ]
ok $? "a busy agent is held to its share of the processor"
end "$agent" "$leaf"

# --- a unit of the operator's at its bounds ---
mkdir -p /etc/octant/units
cat > /etc/octant/units/hungry.toml <<'EOF'
exec = ["/bin/sh", "/srv/test/memory.sh"]
user = 1000
resources = { memory_max = "32MiB", memory_high = "32MiB", pids_max = 16, cpu_weight = 50, nofile = 64 }
EOF
expect "a unit with bounds is taken up" octant upgrade
told() { octant ledger query --kind unit --json 2> $work/told.err | grep -q 'killed at its memory_max of 32MiB'; }
i=0
while ! told && [ $i -lt 60 ]; do
  sleep 1
  i=$((i + 1))
done
told
ok $? "and why it was started again is on record"
leaf=/sys/fs/cgroup/services/hungry
holds memory.max 33554432
holds memory.high 33554432
holds pids.max 16
holds cpu.weight 50
octant status --json | tr '{' '\n' | grep '"name":"hungry"' > $work/hungry
expect "the status has its bound" contains $work/hungry '"memory_max":33554432'
expect "and its kills" contains $work/hungry '"out_of_memory":[1-9]'
rm /etc/octant/units/hungry.toml
expect "it goes with its file" octant upgrade

# --- the disk that what is granted lies on ---
mkdir -p /var/lib/octant/gate/part /srv/disk
# The spawner has mounts of its own.
expect "a directory of the data disk is shown elsewhere" \
  /opt/octant-load bind "$(pid_of spawner)" /var/lib/octant/gate /srv/disk
start disks
holds io.max "$(cat /sys/class/block/vda/dev) rbps=1048576 wbps=max riops=max wiops=100"
end "$agent" "$leaf"
trial diskless
[ $? != 0 ]
ok $? "a bound on disks is refused where there is none"
expect "and says so" contains $work/diskless.err 'layer cgroup: .*/srv/test lies on a file system'

# --- the probe ---
trial probe
probed=$?
sed 's/^/# probe: /' $work/probe.log
ok $probed "everything that is not granted is denied"
grep -q '^1\.\.' $work/probe.log && ! grep -q '^not ok' $work/probe.log
ok $? "and the probe made its whole plan of attempts"
octant agent why "$agent" > $work/why 2>&1
expect "what the filters denied to it is reported" contains $work/why 'the system call mount (.*the floor'
grep -q 'system calls that a filter denied: .*do not come' $work/why
[ $? != 0 ]
ok $? "and the kernel's reports do come"
grep -q '^Seccomp:.0' /proc/1/status && grep -q '^NoNewPrivs:.0' /proc/1/status && \
  ! grep -q '^CapEff:.0000000000000000' /proc/1/status
ok $? "and PID 1 carries no restriction that was meant for an agent"

# --- crash, hang, storm ---
before=$(pid_of ledger)
kill -9 "$before"
expect "a request queued while the ledger is dead is answered by the next one" octant ledger tail -n 1
after=$(pid_of ledger)
[ -n "$after" ] && [ "$before" != "$after" ]
ok $? "which is another process"
expect "the chain holds over the crash" octant ledger verify
before=$(octant status --json | grep -o '"pid":[0-9]*')
expect "PID 1 is replaced in place" octant upgrade
sleep 1
kill -SEGV 1
sleep 1
[ "$(octant status --json | grep -o '"pid":[0-9]*')" = "$before" ]
ok $? "and survives a fault of its own, with every process kept"
expect "in good health" octant health
before=$(pid_of agents)
kill -STOP "$before"
i=0
while [ "$(pid_of agents)" = "$before" ] && [ $i -lt 60 ]; do
  sleep 1
  i=$((i + 1))
done
[ "$(pid_of agents)" != "$before" ]
ok $? "a hung service is noticed by its watchdog and replaced"
i=0
while [ $i -lt 50 ]; do
  (sleep 0.05 &)
  i=$((i + 1))
done
sleep 2
zombies=$(cat /proc/[0-9]*/stat 2> /dev/null | grep -c ') Z ')
[ "$zombies" = 0 ]
ok $? "orphans are reaped"
i=0
while ! octant health > $work/out 2>&1 && [ $i -lt 20 ]; do
  sleep 1
  i=$((i + 1))
done
expect "every unit is healthy again" octant health
expect "the ledger verifies at the end" octant ledger verify

# --- what leaves the machine: the host reads it from the data disk and judges it ---
keep=/var/lib/octant/test
mkdir -p $keep
number() { # member
  octant ledger verify --json | tr ',{' '\n\n' | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"
}
i=0
while [ "$(number entries)" != "$(number checkpointed)" ] && [ $i -lt 60 ]; do
  sleep 1
  i=$((i + 1))
done
octant ledger checkpoint --key > $keep/log.pub
ok $? "the log's key is shown"
octant ledger checkpoint > $keep/kept.checkpoint
ok $? "a signed checkpoint can be kept elsewhere"
expect "the whole ledger is exported" octant ledger export $keep/all.octant
expect "and what is about one agent" octant ledger export $keep/agent.octant --agent "$aid"
expect "one entry is proven" octant ledger prove 2

finish
