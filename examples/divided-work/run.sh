#!/bin/sh
# The example from outside, as an operator would do it by hand: sh run.sh on a running Octant.
#
# Exit code: 0 when fifteen agents in four generations found what one count finds, and the partition of each is sealed
# and verifies elsewhere; 1 otherwise.
set -u

OCTANT=${OCTANT:-$(command -v octant || echo /proc/self/exe)}
EXAMPLE=${EXAMPLE:-/usr/share/octant/examples/divided-work}
LOGS=${LOGS:-/srv/logs}
TMP=${TMPDIR:-/tmp}/divided-work.$$
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

step "one agent under a signed manifest, and those that it spawns"
aid=$("$OCTANT" agent spawn --wait "$EXAMPLE/manifest.signed.json")
spawned=$?
if [ -z "$aid" ]; then
    echo "run.sh: nothing was started" >&2
    exit 1
fi
[ "$spawned" -eq 0 ] || failed=1
must "$OCTANT" agent tree --all

step "what they found together"
"$OCTANT" agent logs "$aid" >"$TMP.found" || failed=1
head -n 8 "$TMP.found"

step "the same by one count"
grep 'Failed password' "$LOGS/auth.log" | sed -n 's/^.* from \([^ ]*\) port .*$/\1/p' | sort | uniq -c |
    sed 's/^ *//' | sort -k 1,1nr -k 2 >"$TMP.expected"
must cmp "$TMP.found" "$TMP.expected"

step "who gave what to whom"
must "$OCTANT" ledger query --kind grant

step "the seal of each, checked as somebody elsewhere would"
# The last entries are in a signed checkpoint within a second.
sleep 1
must "$OCTANT" ledger verify
key=$("$OCTANT" ledger checkpoint --key)
verified=0
for one in $("$OCTANT" agent tree --all | sed -n 's/^\(agent-[0-9a-z]*\) .*$/\1/p'); do
    must "$OCTANT" ledger export --agent "$one" "$TMP.export" >/dev/null
    "$OCTANT" ledger verify "$TMP.export" --key "$key" >"$TMP.said" || failed=1
    if grep 'before its seal' "$TMP.said" >/dev/null; then
        verified=$((verified + 1))
    else
        echo "run.sh: $one has no seal that verifies" >&2
        cat "$TMP.said" >&2
    fi
    rm -f "$TMP.export"
done
echo "$verified seals verify"
[ "$verified" -eq 15 ] || failed=1
rm -f "$TMP.found" "$TMP.expected" "$TMP.said"

echo
if [ "$failed" -ne 0 ]; then
    echo "divided-work: FAILED, see above"
    exit 1
fi
echo "divided-work: done"
