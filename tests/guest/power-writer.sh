#!/bin/sh
# The job of the boot that loses its power: an agent that writes notes, its log on the console.
aid=$(octant agent spawn /srv/test/writer.signed.json --json | sed -n 's/.*"aid":"\(agent-[0-9a-z]*\)".*/\1/p' | head -n 1)
octant agent logs --follow "$aid"
