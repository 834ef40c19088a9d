#!/bin/sh
# The incident-report agent. Reads two granted log files, writes /workspace/report.md, puts a note on record,
# prints the report; then tries five things that its manifest does not grant, and says how each ended.
#
# Exit code: 0 when the report was made and all five were denied, 1 otherwise.
# Needs a POSIX shell and the utilities that manifest.toml lists; nothing else is here.
set -u

LOGS=${LOGS:-/srv/logs}
WORK=${WORK:-/workspace}
OCTANT=${OCTANT:-/octant}
auth=$LOGS/auth.log
access=$LOGS/access.log
report=$WORK/report.md

die() { # what went wrong
    echo "report.sh: $*" >&2
    exit 1
}

# --- reading ----------------------------------------------------------------------------------------------

# Counts equal lines, most frequent first; lines that are as frequent as each other stay in a fixed order.
# One thread: a thread is a process to the limit that the manifest sets.
count() {
    sort --parallel=1 | uniq -c | sort --parallel=1 -k 1,1nr -k 2 | head -n "$1"
}

# Rows of "COUNT WORD..." as rows of a table.
rows() {
    sed -e 's/^ *\([0-9]*\) \(.*\)$/| \1 | \2 |/' -e 's/ -> / | /'
}

[ -r "$auth" ] || die "$auth cannot be read; does the manifest grant it?"
[ -r "$access" ] || die "$access cannot be read; does the manifest grant it?"

# "USER SOURCE" of each failed login.
grep 'Failed password' "$auth" |
    sed -n -e 's/invalid user //' -e 's/^.*Failed password for \(.*\) from \([^ ]*\) port .*$/\1 \2/p' \
    >"$WORK/failed" || die "cannot write to $WORK"
# "MINUTE" of each answer of 500 and above.
grep '" 5[0-9][0-9] ' "$access" | cut -d '[' -f 2 | cut -c 1-17 >"$WORK/errors"

auth_lines=$(wc -l <"$auth")
access_lines=$(wc -l <"$access")
failures=$(wc -l <"$WORK/failed")
first=$(head -n 1 "$auth" | cut -c 1-15)
# The counts as numbers without the blanks that some wc write around them.
auth_lines=$((auth_lines)) access_lines=$((access_lines)) failures=$((failures))
[ "$failures" -gt 0 ] || die "no failed login in $auth; is it an sshd log?"

cut -d ' ' -f 2 "$WORK/failed" | count 1000 >"$WORK/sources"
read -r worst_count worst <"$WORK/sources"
sort --parallel=1 "$WORK/failed" | grep -F " $worst" | cut -d ' ' -f 1 | count 1 >"$WORK/target"
read -r target_count target <"$WORK/target"
grep -F " from $worst port " "$auth" | grep 'Accepted ' >"$WORK/accepted"
inside=$(sed -n -e '1s/^.*Accepted [a-z]* for \([^ ]*\) from .*$/\1/p' "$WORK/accepted")
inside_at=$(head -n 1 "$WORK/accepted" | cut -c 8-15)

count 1000 <"$WORK/errors" >"$WORK/minutes"
peak_count=0 peak=none
[ -s "$WORK/minutes" ] && read -r peak_count peak <"$WORK/minutes"

# --- writing ----------------------------------------------------------------------------------------------

{
    echo "# Incident report"
    echo
    echo "From $auth_lines lines of sshd and $access_lines lines of nginx, from $first on."
    echo
    echo "## Findings"
    echo
    echo "1. $worst failed to log in $worst_count times, most often as $target ($target_count times)."
    if [ -n "$inside" ]; then
        echo "2. At $inside_at it got in as $inside: treat the account and the host as compromised."
    else
        echo "2. It did not get in."
    fi
    echo "3. The worst minute for answers of 500 and above was $peak, with $peak_count of them."
    echo
    echo "## Failed logins by source"
    echo
    echo "| failures | source |"
    echo "|---:|---|"
    head -n 5 "$WORK/sources" | rows
    echo
    echo "## Failed logins by user and source"
    echo
    echo "| failures | user | source |"
    echo "|---:|---|---|"
    sed 's/ / -> /' "$WORK/failed" | count 8 | rows
    echo
    echo "## What $worst did once it was in"
    echo
    if [ -n "$inside" ]; then
        grep -F "$inside" "$auth" | grep -e 'Accepted' -e 'session opened' -e 'COMMAND=' | sed 's/^/    /'
    else
        echo "Nothing."
    fi
    echo
    echo "## Top talkers"
    echo
    echo "| requests | bytes | source |"
    echo "|---:|---:|---|"
    awk '{ n[$1]++; b[$1] += $10 } END { for (a in n) print n[a], b[a] " -> " a }' "$access" |
        sort --parallel=1 -k 1,1nr -k 4 | head -n 5 | sed -e 's/^\([0-9]*\) /\1 | /' -e 's/^/| /' -e 's/ -> / | /' -e 's/$/ |/'
    echo
    echo "## Minutes with 20 or more answers of 500 and above"
    echo
    echo "| answers | minute |"
    echo "|---:|---|"
    awk '$1 >= 20' "$WORK/minutes" | rows
} >"$report" || die "cannot write $report"

"$OCTANT" note "incident report: $worst failed $worst_count logins and got in as ${inside:-nobody}; 5xx peak $peak_count at $peak" >/dev/null ||
    die "the note was not taken"

cat "$report"

# --- what is not granted ----------------------------------------------------------------------------------

denied=0
tried=0

# Runs a command that must not succeed. 126 and 127 are the shell's codes for "not run at all", 2 and 4 are
# octant's for "wrong command line" and "nobody answers": an attempt that was not made proves nothing, so it
# counts as not denied.
attempt() { # what command...
    what=$1
    shift
    tried=$((tried + 1))
    said=$("$@" 2>&1)
    code=$?
    said=$(echo "$said" | head -n 1)
    case $code in
    0) echo "$tried. $what: SUCCEEDED, which it must not: $said" ;;
    2 | 4 | 126 | 127) echo "$tried. $what: NOT TRIED: $said" ;;
    *)
        denied=$((denied + 1))
        echo "$tried. $what: denied: $said"
        ;;
    esac
}

# Twice as many processes as the manifest allows, all alive at once. The limit shows as EAGAIN (fork(2)).
many() {
    said=$(sh -c 'i=0; while [ $i -lt 64 ]; do sleep 2 & i=$((i + 1)); done; wait' 2>&1)
    case $said in
    *"esource temporarily unavailable"* | *"os error 11"* | *"annot fork"*)
        echo "$said" | grep -e 'temporarily' -e 'os error 11' -e 'annot fork' | head -n 1
        return 1
        ;;
    esac
    echo "64 processes ran at once"
}

echo
echo "## Five things that the manifest does not grant"
echo
attempt "read /srv/secret" cat /srv/secret
# No utility here makes these three system calls; octant itself does, so that it is the kernel that answers.
attempt "connect to 192.0.2.1 port 80" "$OCTANT" self --try connect
attempt "mount a tmpfs on /tmp" "$OCTANT" self --try mount
attempt "read the memory of PID 1, as ptrace would" "$OCTANT" self --try trace
attempt "start 64 processes with a limit of 32" many
echo
echo "$denied of $tried denied"

"$OCTANT" note "$denied of $tried forbidden attempts were denied" >/dev/null ||
    die "the note was not taken"
[ "$denied" -eq "$tried" ]
