#!/bin/sh
# A configure script in the style of autoconf's: probes of the machine, caching, substitution of templates, a log, a
# summary. Everything that it writes is below a directory of its own.
set -e

: "${TMPDIR:=/tmp}"
work=$(mktemp -d "$TMPDIR/configure.XXXXXX") || exit 1
cleanup() {
    status=$?
    rm -rf "$work"
    echo "cleaned up after $status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"

# --- M4sh-like start: separators, IFS, a path to walk.
as_nl='
'
IFS=" 	$as_nl"
PATH_SEPARATOR=:
exec 5>config.log
exec 6>&1

note() { printf '%s\n' "$*" >&5; }
checking() { printf 'checking %s... ' "$1" >&6; note "checking $1"; }
result() { echo "$1" >&6; note "result: $1"; }
fail() { echo "configure: error: $*" >&2; exit 1; }

# --- options
prefix=/usr/local
exec_prefix=NONE
with_feature=auto
enable_static=yes
verbose=0
cache=
usage() {
    cat <<EOF
Usage: configure [OPTION]... [VAR=VALUE]...

  --prefix=PREFIX      install in PREFIX [$prefix]
  --with-feature=ARG   yes, no or auto [\`auto']
  --disable-static     no static library
EOF
}
parse() {
    while [ $# -gt 0 ]; do
        arg=$1
        shift
        case $arg in
            --*=*) value=${arg#*=}; name=${arg%%=*} ;;
            *) value=; name=$arg ;;
        esac
        case $name in
            --prefix) prefix=$value ;;
            --exec-prefix) exec_prefix=$value ;;
            --with-*) feature=$(echo "$name" | sed 's/^--with-//; s/-/_/g'); eval "with_$feature=\$value" ;;
            --enable-* | --disable-*)
                feature=$(expr "x$name" : 'x--[a-z]*-\(.*\)' | tr - _)
                case $name in --disable-*) value=no ;; *) value=${value:-yes} ;; esac
                eval "enable_$feature=\"\$value\""
                ;;
            -v | --verbose) verbose=$((verbose + 1)) ;;
            --help | -h) usage ;;
            *=*) variable=${arg%%=*}; eval "$variable='${arg#*=}'"; export "$variable" ;;
            -*) fail "unrecognized option: \`$arg'" ;;
            *) note "nonopt: $arg" ;;
        esac
    done
}
parse --prefix=/opt/pkg --with-feature=yes --disable-static -v -v "CFLAGS=-O2 -g" --help
test "$exec_prefix" != NONE || exec_prefix='${prefix}'

# --- programs in PATH
mkdir bin other
for tool in alpha beta; do
    printf '#!/bin/sh\necho "%s 1.%d.0"\n' $tool 4 >bin/$tool
    chmod +x bin/$tool
done
: >other/gamma
search_path=other$PATH_SEPARATOR${PATH_SEPARATOR}bin

find_tool() {
    found=
    saved_ifs=$IFS
    IFS=$PATH_SEPARATOR
    for dir in $search_path; do
        IFS=$saved_ifs
        case $dir in '') dir=./ ;; */) ;; *) dir=$dir/ ;; esac
        if test -f "$dir$1" && test -x "$dir$1"; then
            found=$dir$1
            break
        fi
    done
    IFS=$saved_ifs
    test -n "$found"
}
missing=
for tool in alpha beta gamma; do
    checking "for $tool"
    if find_tool $tool; then
        version=$("$found" | sed -n 's/^[a-z]* \([0-9][0-9.]*\)$/\1/p')
        result "$found ($version)"
        eval "ac_cv_prog_$tool=\$version"
    else
        result no
        missing="$missing $tool"
    fi
done

# --- versions compared as numbers, field by field
newer() {
    awk -v a="$1" -v b="$2" 'BEGIN {
        n = split(a, x, "."); m = split(b, y, ".")
        for (i = 1; i <= (n > m ? n : m); i++) if (x[i] + 0 != y[i] + 0) exit !(x[i] + 0 > y[i] + 0)
        exit 1
    }'
}
for need in 1.3.9 1.4 1.10; do
    checking "whether alpha is newer than $need"
    if newer "$ac_cv_prog_alpha" $need; then result yes; else result no; fi
done

# --- a cache that is written, sorted and read back
(
    set | sed -n "s/^\(ac_cv_[a-z_]*\)=\(.*\)/\1=\2/p" | tr -d "'" | sort
) >cache
cat cache >&5
while IFS== read -r key value; do
    echo "cached $key is $value"
done <cache
. ./cache
unset ac_cv_prog_beta
test "${ac_cv_prog_beta+set}" = set && fail "unset did not"
test "${ac_cv_prog_alpha-none}" = 1.4.0

# --- templates
cat >Makefile.in <<\EOF
prefix = @prefix@
exec_prefix = @exec_prefix@
CFLAGS = @CFLAGS@
STATIC = @enable_static@
all: $(OBJ)
	$(CC) -o $@ $<
EOF
script=
for variable in prefix exec_prefix CFLAGS enable_static with_feature; do
    eval "value=\$$variable"
    value=$(printf '%s' "$value" | sed 's/[\\&|]/\\&/g')
    script="$script${script:+;}s|@$variable@|$value|g"
done
sed "$script" Makefile.in >Makefile
cat Makefile
grep '@[a-z_]*@' Makefile && fail 'a name was left'

# --- headers by a loop in a pipeline, quoting of many kinds
printf '%s\n' stdio.h sys/types.h 'odd name.h' |
while read -r header; do
    symbol=HAVE_$(echo "$header" | tr 'abcdefghijklmnopqrstuvwxyz' 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' | sed 's/[^A-Z0-9]/_/g')
    case $header in
        sys/*) echo "#define $symbol 1" ;;
        *' '*) echo "/* #undef $symbol */" ;;
        *) printf '#define %s %d\n' "$symbol" 1 ;;
    esac
done >config.h
cat config.h
count=$(grep -c define config.h)
test "$count" -eq 2 || fail "counted $count"

# --- set -e and its exceptions
false || :
if false; then echo never; fi
! true || echo negated
(set +e; false; echo "went on after $?")
ok=$(set +e; false; echo still); echo "substitution: $ok"

# --- descriptors
exec 7<config.h
read -r first <&7
read -r second <&7
exec 7<&-
echo "first: $first"
echo "second: $second"
{ echo to-out; echo to-err >&2; } 2>err.txt | sed 's/^/piped: /'
sed 's/^/error: /' err.txt

# --- arguments kept for a later run, quoted as autoconf does it
quote() {
    case $1 in
        *\'*) escaped=$(printf '%s' "$1" | sed "s/'/'\\\\''/g") ;;
        *) escaped=$1 ;;
    esac
    case $1 in
        *[!A-Za-z0-9_./=-]* | '') kept="$kept '$escaped'" ;;
        *) kept="$kept $escaped" ;;
    esac
}
kept=
for argument in --prefix=/opt/pkg 'CFLAGS=-O2 -g' "it's" '' '$HOME'; do quote "$argument"; done
echo "kept:$kept"
eval "set x $kept"
shift
echo "again: $# arguments, the third is <$3>, the last <$5>"

# --- a script that is written, and does the rest by itself
cat >config.status <<_EOF
#! /bin/sh
# Made by configure with:$kept
prefix='$prefix'
files='Makefile sub/deep/paths.h'
_EOF
cat >>config.status <<\_EOF
parent() {
    expr "x$1" : 'x\(.*[^/]\)//*[^/][^/]*/*$' \| "x$1" : 'x\(/\)' \| . : '\(.\)'
}
for file in $files; do
    dir=`parent "$file"`
    test -d "$dir" || {
        rest=$dir missing=
        while test ! -d "$rest"; do
            missing="$rest $missing"
            rest=`parent "$rest"`
        done
        mkdir $missing
    }
    case $file in
        *.h) printf '#define PREFIX "%s"\n#define DEPTH %d\n' "$prefix" `echo "$file" | tr -cd / | wc -c` >"$file.tmp" ;;
        *) sed "s|^prefix = .*|prefix = $prefix/final|" "$file" >"$file.tmp" ;;
    esac
    if cmp -s "$file.tmp" "$file"; then echo "$file is unchanged"; rm -f "$file.tmp"; else mv -f "$file.tmp" "$file"; echo "$file is made"; fi
done
exit 0
_EOF
chmod +x config.status
for round in first second; do
    echo "$round:"
    sh ./config.status || fail "config.status ended with $?"
done
cat sub/deep/paths.h
sed -n 1p Makefile

# --- what machine it is for, from a name in three or four parts
for name in x86_64-pc-linux-gnu aarch64-linux i686-unknown-freebsd13.2 sparc; do
    saved_ifs=$IFS; IFS=-
    set x $name
    shift
    IFS=$saved_ifs
    case $#:$name in
        4:*) cpu=$1 vendor=$2 system=$3-$4 ;;
        3:*-freebsd*) cpu=$1 vendor=$2 system=${3%%.*} ;;
        2:*) cpu=$1 vendor=unknown system=$2-gnu ;;
        *) echo "$name: cannot be told"; continue ;;
    esac
    echo "$name: $cpu of $vendor with $system"
done

# --- options by getopts, in a function that begins anew each time
options() {
    OPTIND=1 flags= level=0
    while getopts :ab:v option "$@"; do
        case $option in
            a) flags=${flags}a ;;
            b) flags="$flags b=$OPTARG" ;;
            v) level=$((level + 1)) ;;
            :) echo "-$OPTARG wants an argument"; return 2 ;;
            \?) echo "-$OPTARG is not known"; return 1 ;;
        esac
    done
    shift $((OPTIND - 1))
    echo "flags $flags, level $level, left: $*"
}
options -a -b 'two words' -vv -- -x rest
options -va one -b two
options -b || echo "ended with $?"
options -q || echo "ended with $?"

cat <<EOF

Configured:
  prefix    $prefix
  feature   ${with_feature:-unset}${enable_static:+, static $enable_static}
  verbose   $((verbose * 10 + 1))
  missing  $missing
  log lines `grep -c '^checking' config.log`
EOF
exit 3
