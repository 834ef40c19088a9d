#!/bin/sh
# Agents that work with a language model, where every limit is real. The model is the tests' double, which runs here too.
. /srv/test/tap.sh

/opt/octant-upstream 127.0.0.1:7400 > $work/double &
cat > /etc/octant/router.toml << 'END'
[[provider]]
name = "double"
base = "http://127.0.0.1:7400/v1"
dialect = "chat"
auth = "none"
headers = { authorization = "Bearer of-the-double" }
stream_usage = true
local = true
[[deployment]]
name = "agent"
provider = "double"
model = "agent-in3000"
window = 200000
max_output = 8192
can = ["tools", "parallel_tools", "streaming"]
price = { input = 1000000, output = 2000000 }
END
expect "the router takes the operator's file" octant router reload

task="What is six times seven, and what is its digest?"
run() { # name
  octant agent spawn --wait "/srv/test/$1.signed.json" --task "$task" --json > "$work/$1" 2> "$work/$1.err"
  ended=$?
  octant agent logs "$1" > "$work/$1.log" 2>&1
}

run worker
ok $ended "an agent works on its task to the end"
[ $ended = 0 ] || sed 's/^/# /' $work/worker.err $work/worker.log
digest=$(printf 42 | sha256sum | cut -d ' ' -f 1)
expect "its result is what the tools gave" contains $work/worker.log "The answer is 42; its digest is $digest."
octant ledger query > $work/ledger
expect "each question is on record" [ "$(grep -c 'ask a model' $work/ledger)" -ge 6 ]
octant agent budget worker > $work/budget
expect "what it used is counted" contains $work/budget models.tokens

run poor
[ $ended != 0 ]
ok $? "an agent is cut at its budget"
octant agent budget poor > $work/budget
expect "it has asked, and not overspent" awk '/^models.tokens/ { exit !($3 > 0 && $3 <= $2) }' $work/budget
expect "the ledger holds" octant ledger verify
finish
