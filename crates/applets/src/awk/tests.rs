//! Whole programs, and the command line.

use super::{Request, locale_is_utf8, parse};
use super::{parse as grammar, run::Machine};
use std::ffi::OsString;
use std::io;

fn parsed(arguments: &[&str]) -> Result<Request, String> {
    let all = std::iter::once("awk").chain(arguments.iter().copied()).map(OsString::from).collect();
    parse(all, |path| {
        if path.ends_with("missing") {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(format!("# {}", path.display()).into())
        }
    })
}

#[test]
fn options_take_their_value_attached_or_apart() {
    let apart = parsed(&["-F", ":", "-v", "x=1", "{print}", "f"]).unwrap();
    assert_eq!(apart, parsed(&["-F:", "-vx=1", "{print}", "f"]).unwrap());
    assert_eq!(apart.variables, [b"FS=:".to_vec(), b"x=1".to_vec()]);
    assert_eq!((apart.program, apart.operands), (b"{print}".to_vec(), vec![b"f".to_vec()]));
    assert_eq!(parsed(&["-Ft", "p"]).unwrap().variables, [b"FS=\\t".to_vec()]);
    let dashes = parsed(&["--", "-1", "a=b", "-"]).unwrap();
    assert_eq!((dashes.program, dashes.operands), (b"-1".to_vec(), vec![b"a=b".to_vec(), b"-".to_vec()]));
    let files = parsed(&["-f", "one", "-ftwo", "data"]).unwrap();
    assert_eq!((files.program, files.operands), (b"# one\n# two\n".to_vec(), vec![b"data".to_vec()]));
}

#[test]
fn a_wrong_command_line_is_refused() {
    for wrong in [&[][..], &["-F"], &["-x", "p"], &["-v", "1=2", "p"], &["-v", "x", "p"], &["-f", "missing"]]
    {
        assert!(parsed(wrong).is_err(), "{wrong:?} is accepted");
    }
}

#[test]
fn the_locale_says_what_a_character_is() {
    let locale = |all: &'static str, lang: &'static str| {
        locale_is_utf8(move |name| match name {
            "LC_ALL" => Some(all.into()),
            "LANG" => Some(lang.into()),
            _ => None,
        })
    };
    assert!(locale("", "C.UTF-8") && locale("en_US.utf8", "C") && !locale("C", "C.UTF-8") && !locale("", ""));
}

/// What a program leaves in the variable `out`, after BEGIN alone.
fn left(program: &str) -> Result<String, String> {
    let program = grammar::program(program.as_bytes(), true)?;
    let mut machine = Machine::new(&program, true);
    machine.give(&[b"awk".to_vec()], &[]);
    machine.run()?;
    let at = program.globals.iter().position(|name| name == "out").expect("a program that sets `out`");
    match machine.get(super::tree::Variable::Global(at)) {
        Ok(value) => Ok(String::from_utf8_lossy(&value.to_text(b"%.6g")).into_owned()),
        Err(_) => Err("`out` is an array".into()),
    }
}

#[test]
fn expressions_bind_as_posix_says() {
    for (expression, value) in [
        ("1 + 2 * 3 ^ 2", "19"),
        ("-2 ^ 2", "-4"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ** 3", "8"),
        ("1 - 1 - 1", "-1"),
        ("1 \" \" -1", "1-1"),
        ("!1 + 1", "1"),
        ("1 == \"1.0\"", "0"),
        ("\"a\" < \"b\"", "1"),
        ("10 < 9", "0"),
        ("\"10\" < \"9\"", "1"),
        ("1 ? 2 ? 3 : 4 : 5", "3"),
        ("(x = 5) x", "55"),
        ("1 && x = 7", "1"),
        ("x++ + ++x", "2"),
        ("x++ x--", "01"),
        ("\"ab\" ~ /^a/", "1"),
        ("\"a.c\" ~ \"a\\\\.c\"", "1"),
        ("5 % 3 * 2", "4"),
        ("-5 % 3", "-2"),
        ("1e3", "1000"),
        ("100000 * 100000", "10000000000"),
        ("0.1 + 0.2", "0.3"),
        ("(1,2) in a", "0"),
        ("length(\"héllo\") length()", "50"),
        ("substr(\"hello\", 2, 3)", "ell"),
        ("index(\"foobar\", \"bar\")", "4"),
        ("sprintf(\"%03d|%s\", 7, \"x\")", "007|x"),
        ("toupper(\"aé\") tolower(\"ÀB\")", "AÉàb"),
        ("int(-3.9)", "-3"),
        ("split(\"a b  c\", p) p[3]", "3c"),
        ("split(\"\", p) length(p)", "00"),
        ("match(\"xaab\", /a+/) RSTART RLENGTH", "222"),
        ("x == 0 && x == \"\"", "1"),
        ("1 in a", "0"),
        ("$0 = \"a b\"; out = NF", "2"),
        ("srand(3) srand()", "03"),
    ] {
        assert_eq!(left(&format!("BEGIN {{ out = {expression} }}")).as_deref(), Ok(value), "{expression}");
    }
}

#[test]
fn statements_do_what_they_say() {
    for (program, value) in [
        ("BEGIN { for (i = 0; i < 5; i++) { if (i == 1) continue; if (i == 4) break; out = out i } }", "023"),
        ("BEGIN { while (i < 3) out = out i++ }", "012"),
        ("BEGIN { do out = out i++; while (i < 3) }", "012"),
        ("BEGIN { for (;;) if (++i > 2) break\nout = i }", "3"),
        ("BEGIN { a[10]; a[9]; a[\"x\"]; for (k in a) out = out k \" \" }", "9 10 x "),
        ("BEGIN { a[1,2] = 3; for (k in a) { split(k, p, SUBSEP); out = p[1] p[2] a[1,2] } }", "123"),
        ("BEGIN { a[1]; delete a[1]; a[2]; delete a; out = length(a) }", "0"),
        ("function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) } BEGIN { out = f(15) }", "610"),
        ("function fill(a, n) { for (; n; n--) a[n] = n } BEGIN { fill(x, 3); out = length(x) x[2] }", "32"),
        ("function g(b) { b[1] = 5 } function f(a) { g(a); return a[1] } BEGIN { out = f(z) z[1] }", "55"),
        ("function n(a) { return length(a) } BEGIN { x[1]; x[2]; out = n(x) }", "2"),
        ("function f(a, b) { b[1] = a; return b[1] } BEGIN { f(1); out = f(2) }", "2"),
        ("func f(a) { a = 2 } BEGIN { out = 1; f(out) }", "1"),
        ("BEGIN { $0 = \"a b c\"; $2 = \"X\"; out = $0 NF }", "a X c3"),
        ("BEGIN { $0 = \"a b c\"; NF = 2; out = $0; $5 = \"e\"; out = out \"|\" $0 }", "a b|a b   e"),
        ("BEGIN { FS = \":\"; $0 = \"a:b\"; out = $2 }", "b"),
        ("BEGIN { $3 = \"x\"; OFS = \"-\"; $1 = \"y\"; out = $0 }", "y--x"),
        ("BEGIN { out = \"aaa\"; gsub(/a/, \"[&]\", out) }", "[a][a][a]"),
        ("BEGIN { x[1] = \"aXa\"; sub(\"X\", \"\\\\&\", x[1]); out = x[1] }", "a&a"),
        ("BEGIN { CONVFMT = \"%.2g\"; out = 3.14159 \"\" }", "3.1"),
        ("BEGIN { if (!(3 in a)) out = length(a) } # a comment", "0"),
        ("BEGIN { if (1) ; else out = 1\n out = out 2 }", "2"),
        ("BEGIN { if (0) out = 1; else if (1)\n\n out = 2\n else out = 3 }", "2"),
        ("BEGIN { exit 0 } END { out = \"end\" }", "end"),
        ("BEGIN { out = 1; exit; out = 2 }", "1"),
        ("BEGIN { out = (getline x < \"/nonexistent\") }", "-1"),
        ("BEGIN { out = close(\"nothing\") }", "-1"),
    ] {
        assert_eq!(left(program).as_deref(), Ok(value), "{program}");
    }
}

#[test]
fn a_wrong_program_is_refused_and_a_failing_one_says_why() {
    for (program, cause) in [
        ("BEGIN {", "line 1"),
        ("BEGIN {\n out = 1 +\n }", "line 2"),
        ("}", "line 1"),
        ("BEGIN { f(1) }", "no such function"),
        ("function f(a, a) {}", "more than one"),
        ("function f(f) {}", "more than one"),
        ("function f(x) {} BEGIN { f = 1 }", "both a function"),
        ("BEGIN { next }", "no record"),
        ("BEGIN { break }", "outside of a loop"),
        ("BEGIN { return }", "outside of a function"),
        ("BEGIN { 1 = 2 }", "="),
        ("BEGIN { print substr(1) }", "substr with 1"),
        ("BEGIN { (1, 2) }", "without an in"),
        ("BEGIN { out = 1 / 0 }", "division"),
        ("BEGIN { a[1]; out = a }", "array"),
        ("BEGIN { a = 1; a[1] = 2 }", "array"),
        ("BEGIN { out = \"x\" ~ \"[\" }", "without its ]"),
        ("BEGIN { $(-1) = 2 }", "no field"),
        ("BEGIN { NF = 1e12 }", "fields"),
        ("BEGIN { printf \"%d\" }", "fewer values"),
        ("function f(n) { f(n + 1) } BEGIN { f(1) }", "calls within each other"),
    ] {
        // As in the program itself: the stack holds the bounds.
        let owned = program.to_owned();
        let run = move || left(&format!("{owned} BEGIN {{ out = out }}"));
        let thread = std::thread::Builder::new().stack_size(super::STACK_BYTES).spawn(run).unwrap();
        let error = thread.join().unwrap().unwrap_err();
        assert!(error.contains(cause), "{program}: {error}");
    }
}

#[test]
fn what_is_within_each_other_has_a_bound() {
    let run = || {
        let deep =
            |levels: usize| left(&format!("BEGIN {{ out = {}1{} }}", "(".repeat(levels), ")".repeat(levels)));
        assert_eq!(deep(400).as_deref(), Ok("1"));
        assert!(deep(100_000).unwrap_err().contains("within each other"));
        assert!(left(&format!("BEGIN {{ out = {}1 }}", "-".repeat(100_000))).is_err());
    };
    std::thread::Builder::new().stack_size(super::STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

/// What the scripts that configure make of templates do with awk.
#[test]
fn templates_are_filled_in_as_configure_does() {
    const FILL: &str = r##"
BEGIN {
  S["prefix"]="/usr\
/local"
  S["CC"]="gcc -O2 & \\"
  for (key in S) S_is_set[key] = 1
  FS = "\a"
}
/^[\t ]*#[\t ]*(define|undef)[\t ]+[_a-zA-Z][_a-zA-Z0-9]*([\t (]|$)/ {
  line = $ 0
  split(line, arg, " ")
  if (arg[1] == "#") {
    defundef = arg[2]
    mac1 = arg[3]
  } else {
    defundef = substr(arg[1], 2)
    mac1 = arg[2]
  }
  split(mac1, mac2, "(") #)
  macro = mac2[1]
  prefix = substr(line, 1, index(line, defundef) - 1)
  if (defundef == "undef") {
    out = out "/* " prefix defundef " " macro " */|"
    next
  }
}
{
  line = $ 0
  nfields = split(line, field, "@")
  len = length(field[1])
  for (i = 2; i < nfields; i++) {
    key = field[i]
    keylen = length(key)
    if (S_is_set[key]) {
      value = S[key]
      line = substr(line, 1, len) "" value "" substr(line, len + keylen + 3)
      len += length(value) + length(field[++i])
    } else
      len += 1 + keylen
  }
  out = out line "|"
}
"##;
    let template = std::env::temp_dir().join(format!("octant-awk-{}", std::process::id()));
    std::fs::write(&template, "P = @prefix@/bin @CC@x\nnone @nothing@ @\n#  undef HAVE_X\n#define Y 1\n")
        .unwrap();
    let program = grammar::program(FILL.as_bytes(), true).unwrap();
    let mut machine = Machine::new(&program, true);
    machine.give(&[b"awk".to_vec(), template.as_os_str().as_encoded_bytes().to_vec()], &[]);
    let code = machine.run();
    std::fs::remove_file(&template).unwrap();
    assert_eq!(code, Ok(0));
    let at = program.globals.iter().position(|name| name == "out").unwrap();
    let out = machine.get(super::tree::Variable::Global(at)).ok().unwrap().to_text(b"%.6g");
    let expected = "P = /usr/local/bin gcc -O2 & \\x|none @nothing@ @|/* #  undef HAVE_X */|#define Y 1|";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}
