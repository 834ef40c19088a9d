#!/bin/sh
# The example from outside, as an operator would do it by hand. `cargo x run </dev/null` runs it as the job of a
# machine that it boots; on a running Octant: sh run.sh. Needs the shell and octant, nothing else.
#
# Exit code: 0 when every unit is healthy, the report was made, everything forbidden was denied, and the ledger
# and an export of it verify; 1 otherwise.
set -u

# Where no directory has octant in it, it is what runs this script.
OCTANT=${OCTANT:-$(command -v octant || echo /proc/self/exe)}
EXAMPLE=${EXAMPLE:-/usr/share/octant/examples/incident-report}
failed=0

step() { # text
    echo
    echo "=== $*"
}

# Runs a command that has to succeed; the rest goes on, so that the console shows everything there is to see.
must() { # command...
    "$@" && return
    echo "run.sh: this failed with exit code $?: $*" >&2
    failed=1
}

step "the machine"
must "$OCTANT" health --wait 60s
must "$OCTANT" status

step "an agent under a signed manifest"
# Something that exists out here and that the manifest does not grant.
SECRET=${SECRET:-/srv/secret}
[ -e "$SECRET" ] || echo "not for agents" >"$SECRET" || failed=1
aid=$("$OCTANT" agent spawn --wait "$EXAMPLE/manifest.signed.json")
spawned=$?
echo "$aid"
if [ -z "$aid" ]; then
    echo "run.sh: nothing was started" >&2
    exit 1
fi
[ "$spawned" -eq 0 ] || failed=1

step "what it wrote"
must "$OCTANT" agent logs "$aid"

step "how it was confined"
must "$OCTANT" agent show "$aid"

step "what is on record"
must "$OCTANT" ledger tail -n 15
must "$OCTANT" ledger verify

step "what somebody elsewhere can check, with the log's key and nothing else"
# The last entries are in a signed checkpoint within a second.
sleep 1
export=${TMPDIR:-/tmp}/incident-report.$$.jsonl
must "$OCTANT" ledger export --agent "$aid" "$export"
must "$OCTANT" ledger verify "$export" --key "$("$OCTANT" ledger checkpoint --key)"
rm -f "$export"

echo
if [ "$failed" -ne 0 ]; then
    echo "incident-report: FAILED, see above"
    exit 1
fi
echo "incident-report: done"
