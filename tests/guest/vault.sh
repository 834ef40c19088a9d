#!/bin/sh
# The vault on a machine that it is bound to. What is to be judged begins with "vault:"; the host judges. The same
# command line at every boot: it is part of what is measured.
show() { sed 's/^/vault: /'; }

octant vault status 2>&1 | show
if octant vault status | grep -q 'state  *sealed'; then
  octant vault list 2>&1 | show
  octant status | grep '^vault' | show
  echo 'correct horse battery' | octant vault unseal --passphrase 2>&1 | show
  echo 'correct horse battery' | octant vault unseal --passphrase --accept-machine "the board was replaced" 2>&1 | show
  octant vault status 2>&1 | sed 's/^/vault: then: /'
  exit 0
fi
if ! octant vault show db > /dev/null 2>&1; then
  echo "vault: first boot"
  echo 'correct horse battery' | octant vault slots add --passphrase 2>&1 | show
  printf 'the value of db' | octant vault put db 2>&1 | show
  printf 'x' | octant vault put hidden 2>&1 | show
  octant vault put signer --kind key-pair --generate 2>&1 | show
  octant vault grant db --to manifest-file:/srv/test/vault.signed.json --mode reveal --reason test 2>&1 | show
  octant vault grant signer --to manifest-file:/srv/test/vault.signed.json --mode sign --reason test 2>&1 | show
fi
octant agent spawn --wait /srv/test/vault.signed.json --json > /tmp/spawned 2> /tmp/spawned.err || cat /tmp/spawned.err
agent=$(sed -n 's/.*"aid": *"\(agent-[0-9a-z]*\)".*/\1/p' /tmp/spawned | head -n 1)
octant agent logs "$agent" 2>&1 | sed 's/^/vault: agent: /'
octant ledger query --agent "$agent" 2>&1 | sed 's/^/vault: ledger: /'
octant vault leases 2>&1 | show
octant vault doctor 2>&1 | show
octant vault identity 2>&1 | show
