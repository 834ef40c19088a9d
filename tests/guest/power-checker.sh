#!/bin/sh
# The job of the boot after the power cut: what is in the ledger, does it verify, and does it continue the checkpoint
# that was seen outside before the cut.
octant ledger query --kind note --limit 100000 --json > /tmp/notes || exit 1
sed -n 's/^{"seq":\([0-9]*\),.*/found \1./p' /tmp/notes
ls /var/lib/octant/ledger/segments /var/lib/octant/ledger/tile/0
base64 -d /srv/test/kept.base64 > /tmp/kept.checkpoint || exit 1
octant ledger verify --checkpoint /tmp/kept.checkpoint || exit 1
echo "ledger verifies"
