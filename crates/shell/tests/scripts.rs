//! Scripts that say what the shell does, each with what it must give; bash must give the same.

mod run;

use run::{SHELL, bash, check, run};

#[test]
fn stages_of_shell_code_run_beside_each_other() {
    check(&[
        // More than a pipe holds, twice.
        (
            "seq 4000 | while read -r x; do echo \"line $x of the stream, made longer\"; done | tail -n 1",
            "line 4000 of the stream, made longer\n",
            0,
        ),
        ("f() { seq 30000; }; f | wc -l", "30000\n", 0),
        ("(seq 30000; seq 3) | { cat; echo end; } | tail -n 2", "3\nend\n", 0),
        ("for i in 1 2 3; do echo $i; done | { while read x; do s=$((s + x)); done; echo $s; }", "6\n", 0),
        ("cat <(seq 2) | while read x; do echo \"<$x>\"; done", "<1>\n<2>\n", 0),
    ]);
}

#[test]
fn a_closed_pipe_ends_what_writes() {
    check(&[
        ("{ while :; do echo y; done; } | head -n 1; echo ${PIPESTATUS[@]}", "y\n141 0\n", 0),
        ("f() { while :; do printf 'y\\n'; done; }; f | head -n 1", "y\n", 0),
        ("yes | { read x; echo $x; }; echo ${PIPESTATUS[@]}", "y\n141 0\n", 0),
    ]);
}

#[test]
fn a_pipeline_ends_as_its_last_stage_does_or_as_pipefail_says() {
    check(&[
        ("{ exit 3; } | (exit 4); echo $? ${PIPESTATUS[@]}", "4 3 4\n", 0),
        ("set -o pipefail; { exit 3; } | cat; echo $?", "3\n", 0),
        ("echo a | exit 3; echo $?", "3\n", 0),
        ("! { false; } | (exit 1); echo $?", "0\n", 0),
        ("set -e; { false; echo no; } | cat; echo on", "on\n", 0),
    ]);
}

#[test]
fn what_a_stage_does_to_itself_stays_in_it() {
    check(&[
        ("x=1; { x=2; cd /; } | cat; echo $x", "1\n", 0),
        ("(trap 'echo sub' EXIT; echo in); echo out", "in\nsub\nout\n", 0),
        ("x=$(trap 'echo end' EXIT; echo a); echo \"$x\"", "a\nend\n", 0),
        ("trap 'echo bye' EXIT; (echo in) | cat", "in\nbye\n", 0),
    ]);
}

#[test]
fn jobs_in_the_background_have_numbers_and_ends() {
    check(&[
        (
            "sleep 0.1 & p=$!; [ -d /proc/$p ] && echo real; wait $p; echo $?; wait $p; echo $?",
            "real\n0\n0\n",
            0,
        ),
        ("(exit 5) & wait $!; echo $?", "5\n", 0),
        ("true | sh -c 'exit 6' & wait $!; echo $?", "6\n", 0),
        ("{ sleep 3; echo no; } & kill $!; wait $!; echo $?", "143\n", 0),
        ("sleep 60 & kill %1; wait $!; echo $?", "143\n", 0),
        ("sleep 60 & kill -KILL $!; wait $! 2>/dev/null; echo $?", "137\n", 0),
        ("false || sleep 3 & kill $!; wait $!; echo $?", "143\n", 0),
        (
            "sleep 60 & a=$!; sleep 60 & for p in $(jobs -p); do kill $p; done; wait $a; echo $?; wait $!; echo $?",
            "143\n143\n",
            0,
        ),
        ("wait 4000000 2>/dev/null; echo $?", "127\n", 0),
        ("sleep 60 & disown; jobs; kill $!", "", 0),
        ("x=$(true & [ -n \"$!\" ] && echo set); echo $x", "set\n", 0),
    ]);
}

#[test]
fn wait_for_the_next_job() {
    check(&[
        (
            "sleep 60 & (exit 3) & wait -n; echo $?; kill %1; wait -n; echo $?; wait -n; echo $?",
            "3\n143\n127\n",
            0,
        ),
        ("(exit 3) & p=$!; wait -n -p q $p; echo $?; [ $p = $q ] && echo same", "3\nsame\n", 0),
    ]);
}

#[test]
fn traps_run_between_commands_and_end_a_wait() {
    check(&[
        ("trap 'echo usr' USR1; kill -USR1 $$; echo after", "usr\nafter\n", 0),
        ("trap 'echo int; exit 9' INT; kill -INT $$; echo after", "int\n", 9),
        (
            "for s in HUP INT QUIT TERM USR1 USR2; do trap \"echo $s\" $s; kill -$s $$; done",
            "HUP\nINT\nQUIT\nTERM\nUSR1\nUSR2\n",
            0,
        ),
        ("trap 'echo t' TERM; sleep 60 & kill -TERM $$; kill $!; wait $!; echo $?", "t\n143\n", 0),
        (
            "trap 'echo t' TERM; sleep 60 & p=$!; (sleep 0.2; kill -TERM $$) & wait $p; echo $?; kill $p",
            "t\n143\n",
            0,
        ),
        (
            "trap 'i=1' USR1; i=0; (sleep 0.1; kill -USR1 $$) & while [ $i = 0 ]; do :; done; echo done",
            "done\n",
            0,
        ),
        ("trap 'c=1' CHLD; sleep 0.1 & wait; sleep 0.1; echo $c", "1\n", 0),
        (
            "trap 'echo int' INT; (sleep 0.1; kill -INT $$) & read x < <(sleep 0.4; echo line); echo $x",
            "int\nline\n",
            0,
        ),
        ("trap 'break' USR1; while :; do kill -USR1 $$; done; echo out", "out\n", 0),
    ]);
}

#[test]
fn traps_are_taken_back_ignored_inherited_and_shown() {
    check(&[
        ("trap 'echo t' TERM; trap - TERM; kill -TERM $$; echo no", "", 143),
        ("trap '' TERM; kill -TERM $$; sh -c 'kill -TERM $$; echo child'; echo alive", "child\nalive\n", 0),
        (
            "trap 'echo a' INT; saved=$(trap); trap - INT; eval \"$saved\"; trap",
            "trap -- 'echo a' SIGINT\n",
            0,
        ),
        ("trap 'echo t' TERM; (trap '' TERM; sh -c 'kill -TERM $$; echo on')", "on\n", 0),
        ("trap 'echo t' TERM; (exit 0); trap", "trap -- 'echo t' SIGTERM\n", 0),
    ]);
}

#[test]
fn the_exit_trap_runs_once_however_the_shell_ends() {
    check(&[
        ("trap 'echo bye' EXIT; kill -TERM $$; echo no", "bye\n", 143),
        ("trap 'echo bye' EXIT; kill -HUP $$; echo no", "bye\n", 129),
        ("trap 'exit 4' EXIT; exit 2", "", 4),
        ("trap 'echo $?' EXIT; exit 2", "2\n", 2),
        ("set -e; trap 'echo bye $?' EXIT; false; echo no", "bye 1\n", 1),
    ]);
}

#[test]
fn a_job_of_shell_code_has_traps_of_its_own() {
    check(&[
        (
            "(trap 'echo got; exit 3' TERM; echo ready >&2; while :; do sleep 0.05; done) & sleep 0.5; kill $!; \
          wait $!; echo $?",
            "ready\ngot\n3\n",
            0,
        ),
        (
            "(trap '' TERM; sleep 0.3; echo lived) & kill -0 $! && echo there; sleep 0.1; kill $!; wait $!; echo $?",
            "there\nlived\n0\n",
            0,
        ),
    ]);
}

#[test]
fn a_format_without_conversions_is_written_once() {
    check(&[
        (
            "printf 'a%%\\n' b c; printf '%s-' a b; echo; printf -v x 'y' z; echo $x; printf '' a; echo $?",
            "a%\na-b-\ny\n0\n",
            0,
        ),
        ("IFS=:; x=$(printf a:b); echo \"$x\"", "a:b\n", 0),
    ]);
}

#[test]
fn words_are_split_as_posix_says() {
    check(&[
        ("IFS=:; set -- $(echo 'a::b:c:'); echo $#; printf '<%s>' \"$@\"; echo", "4\n<a><><b><c>\n", 0),
        ("IFS=', '; x='a , b,,c ,'; for i in $x; do echo \"<$i>\"; done", "<a>\n<b>\n<>\n<c>\n", 0),
        ("IFS=:; x=:a; set -- $x; echo $#", "2\n", 0),
        (
            "IFS=:/; echo a:b /usr/bin; x=/y:z; echo $x/w:v; echo ${x:-q} ${n:-p:q} ${n:-\"p:q\"}; ls -d /et?",
            "a:b /usr/bin\n y z/w:v\n y z p q p:q\n/etc\n",
            0,
        ),
        ("set -- ${n:-a b} ${n:+c d} a\\ b; echo $#; set -- ${n-'a b' c}; echo $#", "3\n2\n", 0),
        ("x='  a  b '; set -- $x; echo $#; x=; set -- $x \"\"; echo $#", "2\n1\n", 0),
    ]);
}

#[test]
fn command_says_what_a_name_is() {
    check(&[
        (
            "f() { :; }; command -v f; command -v cd; command -v if; command -v no-such-thing; echo $?",
            "f\ncd\nif\n1\n",
            0,
        ),
        (
            "f() { echo function; }; alias f2=f; command -v f >/dev/null && echo known; command echo plain",
            "known\nplain\n",
            0,
        ),
        ("command -V no-such-thing 2>/dev/null || echo none", "none\n", 0),
    ]);
}

#[test]
fn a_changed_path_counts_at_once_and_own_utilities_come_last() {
    check(&[(
        "d=$(mktemp -d); printf '#!/bin/sh\\necho mine\\n' >$d/ls; chmod +x $d/ls; ls / >/dev/null; PATH=$d:$PATH; ls; \
         rm -r $d",
        "mine\n",
        0,
    )]);
    // The shell under test names one utility, which this program is not.
    let outcome =
        run(SHELL, &["-c", "PATH=/nowhere; command -v octant; hash -r; command -v octant; command -v ls"]);
    assert_eq!((outcome.output.as_str(), outcome.code), ("octant\noctant\n", 1));
}

#[test]
fn functions_call_themselves_deeply_and_not_for_ever() {
    check(&[("f() { [ $1 -le 0 ] && return; if :; then f $(($1 - 1)); fi; }; f 2500; echo $?", "0\n", 0)]);
    let outcome = run(SHELL, &["-c", "f() { f; }; f 2>/dev/null; echo on"]);
    assert_eq!((outcome.output.as_str(), outcome.code), ("on\n", 0));
}

#[test]
fn select_asks_until_the_body_is_content() {
    check(&[
        (
            "printf '2\\nx\\n\\n1\\nrest\\n' | { PS3='which? '; \
             select w in one 'two words'; do echo \"<$w> $REPLY\"; [ \"$w\" = one ] && break; done; cat; }",
            "1) one\n2) two words\nwhich? <two words> 2\nwhich? <> x\nwhich? 1) one\n2) two words\nwhich? <one> 1\nrest\n",
            0,
        ),
        ("f() { select x; do echo $x; done; echo $?; }; echo 1 | f a 2>/dev/null", "a\n\n1\n", 0),
        (
            "select x in; do echo no; done; echo $?; f() { select y in a; do return 4; done; }; echo 1 | f 2>/dev/null; echo $?",
            "0\n4\n",
            0,
        ),
    ]);
}

/// Whole scripts give what bash gives that is called `sh`.
#[test]
fn scripts_of_the_style_of_configure_run_unchanged() {
    for name in ["configure.sh", "release.sh"] {
        let script = format!("{}/tests/configure/{name}", env!("CARGO_MANIFEST_DIR"));
        let expected = run(bash(), &["--posix", &script]);
        assert!(expected.output.lines().count() > 30, "{name} stopped early: {}", expected.output);
        assert_eq!(run(SHELL, &[&script]), expected, "{name}");
    }
}
