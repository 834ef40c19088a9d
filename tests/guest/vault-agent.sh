#!/bin/sh
# Run in a workstation whose manifest was granted "db" for reveal and "signer" for sign, and nothing else.
echo "db is $(octant secret get db)"
octant secret sign signer /srv/test/vault-agent.sh > /tmp/signature && echo "signed $(wc -c < /tmp/signature)"
octant secret get hidden 2> /tmp/forbidden
forbidden=$?
octant secret get nothing-of-the-kind 2> /tmp/unknown
unknown=$?
octant secret get signer 2> /tmp/kept
[ "$(cat /tmp/forbidden)" = "$(cat /tmp/unknown)" ] && [ $forbidden = $unknown ] && echo "refused alike with $forbidden"
[ "$(cat /tmp/forbidden)" = "$(cat /tmp/kept)" ] && echo "a key pair is not handed out"
cat /tmp/forbidden
