#!/bin/sh
# An agent of the divided-work example: counts the failed logins by source in a part of the log. It does so itself when
# nothing is left to divide; otherwise it spawns two agents of its own, gives each a half, and adds up what they print.
#
#     divide.sh FROM TO LEVEL
#
# Exit code: 0 when everything below it ended well, 1 otherwise.
set -u

LOGS=${LOGS:-/srv/logs}
WORK=${WORK:-/workspace}
OCTANT=${OCTANT:-/octant}
EXAMPLE=${EXAMPLE:-/usr/share/octant/examples/divided-work}
from=$1 to=$2 level=$3

die() { # what went wrong
    echo "divide.sh $from $to $level: $*" >&2
    exit 1
}

# "COUNT SOURCE" of each failed login on the lines of standard input, most first.
count() {
    grep 'Failed password' | sed -n 's/^.* from \([^ ]*\) port .*$/\1/p' | sort --parallel=1 | uniq -c |
        sed 's/^ *//' | sort --parallel=1 -k 1,1nr -k 2
}

# Starts an agent for the lines $1 to $2, and says which it is.
child() {
    below=0 spawns=false left=$((level - 1))
    # Two children, and what each of those needs below it.
    [ "$left" -gt 0 ] && spawns=true
    i=0
    while [ "$i" -lt "$left" ]; do
        below=$((2 * below + 2)) i=$((i + 1))
    done
    sed -e "s/@FROM@/$1/g" -e "s/@TO@/$2/g" -e "s/@LEVEL@/$left/g" -e "s/@SPAWNS@/$spawns/" -e "s/@BELOW@/$below/" \
        -e "s/@MINUTES@/$((left + 1))/" "$EXAMPLE/child.toml" >"$WORK/child.toml" || return 1
    "$OCTANT" agent spawn --manifest "$WORK/child.toml"
}

if [ "$level" -eq 0 ]; then
    sed -n "${from},${to}p" "$LOGS/auth.log" | count
    exit
fi

half=$(((from + to) / 2))
one=$(child "$from" "$half") || die "no agent for the first half"
two=$(child $((half + 1)) "$to") || die "no agent for the second half"
for agent in "$one" "$two"; do
    "$OCTANT" agent wait "$agent" >/dev/null || die "$agent did not end well"
    "$OCTANT" agent logs "$agent" >>"$WORK/parts" || die "$agent has no output"
done
awk '{ n[$2] += $1 } END { for (s in n) print n[s], s }' "$WORK/parts" | sort --parallel=1 -k 1,1nr -k 2
