# What the guest's scripts share; prints TAP. The host judges.
# Uses only what a machine that runs Octant has: its shell, utilities and commands.
n=0
bad=0
work=/tmp/gate
mkdir -p $work

ok() { # status name
  n=$((n + 1))
  if [ "$1" = 0 ]; then
    echo "ok $n - $2"
  else
    echo "not ok $n - $2"
    bad=1
  fi
}

# ok when the command succeeds; its output is shown only when it does not.
expect() { # name command...
  name=$1
  shift
  "$@" > $work/out 2>&1
  status=$?
  [ $status = 0 ] || sed 's/^/# /' $work/out
  ok $status "$name"
}

# ok when the command ends with exactly this code.
expect_code() { # code name command...
  code=$1
  name=$2
  shift 2
  "$@" > $work/out 2>&1
  status=$?
  [ $status = "$code" ] || { echo "# exit code $status, expected $code"; sed 's/^/# /' $work/out; }
  [ $status = "$code" ]
  ok $? "$name"
}

contains() { # file text
  grep -q -- "$2" "$1" || { echo "no \"$2\" in:"; cat "$1"; false; }
}

aid_in() { # file
  sed -n 's/.*"aid": *"\(agent-[0-9a-z]*\)".*/\1/p' "$1" | head -n 1
}

# Runs one of the tests' agents to its end; what came of it is in $work/NAME, its log in $work/NAME.log.
trial() { # name
  octant agent spawn --wait "/srv/test/$1.signed.json" --json > "$work/$1" 2> "$work/$1.err"
  ended=$?
  agent=$(aid_in "$work/$1")
  [ -n "$agent" ] || sed 's/^/# /' "$work/$1" "$work/$1.err"
  octant agent logs "$agent" > "$work/$1.log" 2>&1
  return $ended
}

# Starts one of them: who it is is in $agent, its cgroup in $leaf.
start() { # name
  octant agent spawn "/srv/test/$1.signed.json" --json > "$work/$1" 2>&1
  agent=$(aid_in "$work/$1")
  [ -n "$agent" ] || sed 's/^/# /' "$work/$1"
  leaf=$(ls -d /sys/fs/cgroup/agents/$agent /sys/fs/cgroup/*/agents/$agent 2> /dev/null | head -n 1)
}

# Ends it, with its cgroup.
end() { # agent leaf
  expect "and is ended" octant agent kill "$1"
  i=0
  while [ -d "$2" ] && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
  done
  [ ! -d "$2" ]
  ok $? "and its cgroup is gone"
}

# A number out of one of a cgroup's files.
of() { # file key
  sed -n "s/^$2 //p" "$1"
}

# The last line of a script.
finish() {
  echo "1..$n"
  exit $bad
}
