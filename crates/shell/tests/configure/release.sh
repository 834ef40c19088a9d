#!/bin/sh
# A release script: getopts, functions with local state, here-documents, arithmetic, traps, jobs in the background, queues
# of work through pipes, a small table worked on by awk and sort.
set -eu

name=${0##*/}
level=0
jobs=2
tags=
usage() { echo "usage: $name [-v] [-j JOBS] [-t TAG]... DIRECTORY" >&2; return 2; }

options() {
    OPTIND=1
    while getopts :vj:t: option; do
        case $option in
            v) level=$((level + 1)) ;;
            j) jobs=$OPTARG ;;
            t) tags=${tags:+$tags,}$OPTARG ;;
            :) echo "option -$OPTARG wants a value"; return 1 ;;
            \?) echo "no option -$OPTARG"; return 1 ;;
        esac
    done
    shift $((OPTIND - 1))
    echo "left: $# [${1-}]"
}
options -vv -j4 -t one -t 'two words' -- here there
echo "level=$level jobs=$jobs tags=$tags"
options -j || echo "refused with $?"
options -z || echo "refused with $?"
usage 2>&1 || echo "usage gave $?"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# --- functions that call themselves, results by output and by status
factorial() {
    if [ "$1" -le 1 ]; then echo 1; else echo $(($1 * $(factorial $(($1 - 1))))); fi
}
gcd() {
    while [ $2 -ne 0 ]; do set -- $2 $(($1 % $2)); done
    echo $1
}
is_prime() {
    n=$1 d=2
    while [ $((d * d)) -le $n ]; do
        [ $((n % d)) -ne 0 ] || return 1
        d=$((d + 1))
    done
}
echo "10! = $(factorial 10), gcd = $(gcd 1071 462)"
primes=
for i in 2 3 4 5 6 7 8 9 10 11 12 13; do
    if is_prime $i; then primes="$primes $i"; fi
done
echo "primes:$primes"
echo $((0x1f + 010 - 3)) $((7 / 2)) $((-7 % 3)) $((1 << 5 | 3)) $((5 > 3 && 2 < 1)) $((level ? 10 : 20))

# --- quoting and expansion
path=/usr/local/lib/libfoo.so.1.2.3
echo "${path##*/} ${path%/*} ${path#*/} ${path%%.*}"
echo "${#path} ${unset-default} ${unset:-'quoted'} ${path:+"set"}"
set -- 'a b' '' "it's" '*'
for argument do printf '<%s>' "$argument"; done; echo
echo "$# $*"
IFS=-; echo "$*"; unset IFS
printf '%s|' "$@"; echo
glob() { for f in *.txt; do echo "$f"; done; }
glob
: >b.txt; : >a.txt; : >.hidden.txt; : >c.TXT
glob
echo [ab].txt ?.T* 'x'*

# --- a change log out of a here-document, worked on in a pipeline
cat >changes <<-'EOF'
	feat|parser|reads $HOME and `ticks` literally
	fix|lexer|a "quoted" word
	fix|parser|tabs are taken off
	docs|manual|more examples
	feat|lexer|numbers
EOF
echo "--- by kind"
cut -d'|' -f1 changes | sort | uniq -c | awk '{ print $2 ": " $1 }' | sort
echo "--- by area"
sort -t'|' -k2,2 -k1,1 changes |
    while IFS='|' read -r kind area text; do
        if [ "${last-}" != "$area" ]; then
            printf '\n%s\n' "$area"
            last=$area
        fi
        printf '  %-5s %s\n' "$kind" "$text"
    done
echo
awk -F'|' '{ n[$2]++ } END { for (a in n) print a, n[a] | "sort" }' changes

# --- work in the background, collected in order
worker() {
    total=0 i=1
    while [ $i -le "$1" ]; do
        total=$((total + i))
        i=$((i + 1))
    done
    echo "$1 $total" >"result.$1"
    [ "$1" -ne 30 ]
}
pids=
for size in 10 20 30 40; do
    worker $size &
    pids="$pids $!"
done
failed=0
for pid in $pids; do
    wait "$pid" || failed=$((failed + 1))
done
echo "failed: $failed"
cat result.* | sort -n

# --- a queue through a named pipe
mkfifo queue
{ for item in one two three; do echo "$item"; done >queue; } &
while read -r item; do echo "item $item"; done <queue
wait

# --- traps
(
    trap 'echo "sub ends with $?"' EXIT
    trap 'echo "usr1"' USR1
    exit 5
) || echo "subshell: $?"
got=0
trap 'got=$((got + 1))' USR1
kill -USR1 $$
kill -USR1 $$
echo "signals: $got"
trap - USR1

# --- case and loops with every kind of leaving
for word in apple banana 7up '' 'two words' -x quit never; do
    case $word in
        [0-9]*) kind=number ;;
        ?*' '?*) kind=words ;;
        -?) kind=option ;;
        a* | b*) kind=fruit ;;
        '') kind=empty; continue ;;
        quit) break ;;
        *) kind=other ;;
    esac
    echo "$word: $kind"
done
i=0
until [ $i -ge 3 ]; do
    i=$((i + 1))
    for j in 1 2 3; do
        [ $j -ne 2 ] || continue 2
        echo "$i.$j"
    done
done

# --- redirections of compound commands, descriptors that are saved
exec 3>&1
{
    echo "into the file"
    echo "past it" >&3
} >out.txt
cat out.txt
if true; then echo both; echo err >&2; fi >all.txt 2>&1
tr '\n' ' ' <all.txt; echo
command -v worker >/dev/null && echo "worker is known"
eval 'x=1; eval "y=\$((x + 1))"'; echo "$x$y"
readonly fixed=1
(fixed=2) 2>/dev/null || echo "readonly held"
umask 022; umask
cd /; cd "$OLDPWD"; [ "$(pwd -P)" = "$(cd "$dir" && pwd -P)" ] && echo home
echo "done with \$? = $?"
