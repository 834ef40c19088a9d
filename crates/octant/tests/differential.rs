//! Utilities beside GNU's on the same machine: the same arguments, the same generated files, the same output and exit code.
//!
//! What differs on purpose, or in a crate, is listed in `crates/applets/src/notes.rs`, which docs/utilities.md is made of.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_octant");

/// How many sets of files each call is tried with.
const SEEDS: u64 = 2;

/// How many patterns are tried with grep.
const PATTERNS: u64 = 400;

/// The programs to compare with, what `--version` says when they are GNU's (xxd and od's like have no such option), and the
/// package that has them.
#[rustfmt::skip] // one program a line
const PEERS: &[(&str, &str, &str, &str)] = &[
    ("awk", "gawk", "GNU Awk", "gawk"),
    ("comm", "comm", "GNU coreutils", "coreutils"),
    ("cut", "cut", "GNU coreutils", "coreutils"),
    ("date", "date", "GNU coreutils", "coreutils"),
    ("diff", "diff", "GNU diffutils", "diffutils"),
    ("expand", "expand", "GNU coreutils", "coreutils"),
    ("expr", "expr", "GNU coreutils", "coreutils"),
    ("find", "find", "GNU findutils", "findutils"),
    ("fold", "fold", "GNU coreutils", "coreutils"),
    ("grep", "grep", "GNU grep", "grep"),
    ("head", "head", "GNU coreutils", "coreutils"),
    ("join", "join", "GNU coreutils", "coreutils"),
    ("nl", "nl", "GNU coreutils", "coreutils"),
    ("od", "od", "GNU coreutils", "coreutils"),
    ("paste", "paste", "GNU coreutils", "coreutils"),
    ("printf", "printf", "GNU coreutils", "coreutils"),
    ("sed", "sed", "GNU sed", "sed"),
    ("seq", "seq", "GNU coreutils", "coreutils"),
    ("sort", "sort", "GNU coreutils", "coreutils"),
    ("tac", "tac", "GNU coreutils", "coreutils"),
    ("tail", "tail", "GNU coreutils", "coreutils"),
    ("test", "test", "", "coreutils"),
    ("tr", "tr", "GNU coreutils", "coreutils"),
    ("uniq", "uniq", "GNU coreutils", "coreutils"),
    ("wc", "wc", "GNU coreutils", "coreutils"),
    ("xargs", "xargs", "GNU findutils", "findutils"),
];

/// Calls: the utility, the file that is its standard input, and lines of arguments, split at blanks; `_` is a blank in one.
/// The files are `a` and `b` (words, sorted), `n` (numbers), `t` (a table), `p` (prose), `x` (any bytes), `e` (empty), `u` (no
/// newline at its end), `l` (one long line), `m` (numbered lines) and `k` (the same, changed in places).
#[rustfmt::skip] // one utility a block
const CALLS: &[(&str, &str, &[&str])] = &[
    ("awk", "t", &["{print}", "{print_$2,$1}", "-F: {print_NF}", "$3>50{s+=$3}END{print_s}", "NR%2",
        "{c[$1]++}END{print_length(c)}", "{printf_\"%5.2f|%-6s|%03d|%c|%x\\n\",$3,$1,$3,65,$3}", "BEGIN{print_length(\"abc\"),substr(\"hello\",2,3),index(\"hello\",\"l\")}",
        "{gsub(/[aeiou]/,\"<&>\");print}", "BEGIN{n=split(\"a:b:c\",x,\":\");print_n,x[3]}", "BEGIN{print_toupper(\"abc\")tolower(\"ABC\")}",
        "{sub(/a+/,\"x\",$1);print}", "BEGIN{while((getline_l<\"n\")>0)s+=l;print_s}", "BEGIN{print_1e6,1e20,0.1+0.2,1/3,100000*100000}",
        "-v x=a\\tb BEGIN{print_x}", "/^a/,/^b/", "{print_NR\":\"$0>\"/dev/stdout\"}", "BEGIN{print_-3%2,2^10,2**3,!0,!\"\"}", "BEGIN{print_x+0,x\"\",length(x)}",
        "BEGIN{OFS=\"-\";$0=\"a_b_c\";$2=\"X\";print;print_NF}", "{$5=\"new\";print}", "match($0,/[0-9]+/){print_RSTART,RLENGTH}", "BEGIN{printf_\"%s_%d\\n\",\"a\",\"12abc\"}",
        "BEGIN{RS=\"\"}{print_NF}", "BEGIN{print_substr(\"hello\",0,2),substr(\"hello\",-1),substr(\"hello\",4,100)}", "/a{2}/", "BEGIN{exit_3}", "function_f(n){return_n<2?n:f(n-1)+f(n-2)}BEGIN{print_f(15)}",
        "BEGIN{a[1,2]=3;for(k_in_a){split(k,p,SUBSEP);print_p[1],p[2]};if((1,2)in_a)print_\"in\"}", "BEGIN{do{i++}while(i<5);print_i;delete_a;print_length(a)}", "END{print_$0,NR}"]),
    ("comm", "e", &["a b", "-12 a b", "-3 a b", "-1 a b", "-23 a b", "--output-delimiter=, a b"]),
    ("cut", "t", &["-d_ -f1", "-f2- -d_", "-c1-3", "-c-2,5-", "-b2", "-d_ -f1,3 --output-delimiter=:", "-d: -f1 -s", "-f1", "-c3-1", "--complement -c1-2", "-d_ -f2-3,1"]),
    ("date", "e", &["-u -d @0", "-u -d @1234567890 +%F_%T", "-u -d 2024-02-29 +%j_%U_%V_%a_%B", "-u -d 2024-01-31T12:34:56Z +%s", "-u -d @86399 -R", "-u -d @0 -Iseconds",
        "-u -d 2024-02-28_+2_days +%F", "-u -d 2024-03-01_-1_day +%F", "-u -d 1_Jan_2020 +%F", "-u -d nonsense", "-u -d @1.5 +%s.%N", "-u -d @0 +%e|%k|%l|%p|%y|%C|%D|%n|%t|%%", "-u -d 20240102 +%F", "-u -d 2024-01-02_03:04 +%F_%R", "-u -d 12:30 +%H:%M"]),
    ("diff", "e", &["m k", "-u --label=x --label=y m k", "-U0 --label=x --label=y m k", "-c --label=x --label=y m k", "-e m k", "-f m k", "-q a b", "-s a a", "a a", "a missing", "-q d d", "-r d d", "-i a b -q", "-w m m", "-u --label=x --label=y m e", "-q x a", "x e"]),
    ("expand", "t", &["", "-t4", "-i", "-t2,6"]),
    ("expr", "e", &["1 + 2", "7 / 2", "7 % 2", "2 * 3", "3 > 2", "a < b", "abc : a\\(.\\)c", "abc : b", "length hello", "substr hello 2 3", "index hello l", "( 1 + 2 ) * 3", "0", "", "1 | 0", "0 & 1", "a = a", "1 +", "1 / 0", "99999999999999999999 + 1", "abc : .*"]),
    ("find", "e", &[". -maxdepth 1 -type f -size -1k", ". -name [abn] -newer e", ". -empty", "d -type d -depth", "d -name *.c -o -name *.h", "d ! -name *.c -type f", "d -path d/s/*", "d -perm -u+r -type f -printf %f\\n", "d -mindepth 2", "missing", "d -name", "d -type f -exec echo {} ;", "d -type f -exec echo {} +", "d -regex .*\\.c", "d -iname *.C -print0", "d -prune", "d -type f -size +0c"]),
    ("fold", "p", &["", "-w20", "-sw15", "-bw7"]),
    ("grep", "p", &["a", "-c a", "-n the", "-v e", "-i THE", "-w a", "-x abc", "-o [a-z]*", "-E (a|b)+c", "-F a.b", "-l a a b n", "-L a a b n", "-q zzz", "-s a missing", "a a b", "-h a a b", "-H a a", "-m2 a", "-A1 xy p", "-B1 xy p", "-C1 xy p",
        "-e a -e b", "-f b a", "^$", "-E ^.{10,20}$ p", "\\(a\\)\\1", "-P \\bthe\\b", "-P (?<=t)h", "[[:upper:]]", "-E [[:digit:]]+ n", "-on e", "-bo th", "-a a x", "-r a d", "-rn --include=*.c a d", "-rl a d", "-E a{2,}", "\\<th", "-E [", "-z a", "-Z -l a a", "-y the", "-nv a", "-ow th",
        "-c -m2 a p n", "-o -b -n [aeiou] p", "-C1 -o the p", "-vC1 e p n", "-A2 -m1 a p", "--color=always -n e p", "--color=always -v e p", "--color=always -A1 -n xy p a",
        "-T -n a p", "-Z a a b", "-x -e a -e abc", "-w -e a -e b", "-f e a", "-vf e a", "-a . x", "-c . x", ". x", "-I . x", "-z . x", "-zc ^ p", "-zo ^[a-z]* p", "-v . x", "-vc a p",
        "-nb . u", "-L a a e u", "-lv a a b", "-qs a missing a", "-r --exclude=*.c a d", "-rL a d", "-rc --exclude-dir=s a d", "-rh a", "-d skip a d a", "a d", "--label=in -H a", "-e [b-a]", "-E (a", "-3 xy p",
        "-n -A1 a l", "-c ab\\|ba", "-E x{0,2}y|^$ p", "-io [A-T]*h p", "--max-count=1 --with-filename a a b", "--no-group-separator -A1 xy p", "--group-separator=== -A0 a p", "-ho . u n", "-cv ^", "-y -F THE"]),
    ("head", "p", &["", "-n3", "-c10", "-n-2", "-c-5", "-3", "-n0", "-q a b", "-v a", "a b", "missing", "-n1k"]),
    ("join", "e", &["a b", "-a1 a b", "-v2 a b", "-a1 -a2 -e X -o 0,1.1,2.1 a b", "-t: a b", "-i a b", "-j1 a b"]),
    ("nl", "p", &["", "-ba", "-w3 -s:", "-v10 -i5", "-nrz", "-bpthe", "-nln"]),
    ("od", "x", &["", "-c", "-tx1", "-An -tx1", "-Ad -td2", "-j3 -N10 -tu1", "-tx4 -v", "-b", "-x", "-a", "-to2", "-tfD -N16", "-w8 -tx1", "-s"]),
    ("paste", "e", &["a b", "-d, a b n", "-s a", "-sd:, a b", "a -", "-d\\n a b"]),
    ("printf", "e", &["%s\\n a b", "%d_%i\\n 1 2 3", "%05.1f 3.14159", "%x_%o_%X 255 8 255", "%-5s|%5s| a b", "%b a\\tb\\n", "%q it's", "%c hello", "%%", "\\x41\\101\\n", "%d 0x1f", "%d 'a", "%s", "%d abc", "%e 12345.678", "%g 0.0001", "%*d 5 42", "%.2s abcdef", "%u -1", "%5%"]),
    ("sed", "p", &["p", "-n p", "s/a/b/", "s/a/b/g", "s/\\(a\\)\\(.\\)/\\2\\1/g", "-E s/(a)(.)/\\2\\1/2", "2d", "$d", "/the/d", "/the/!d", "2,4d", "-n 2,4p", "-n /a/,/e/p", "1~2d", "s/a/&&/p", "-n s/a/X/gpw_/dev/stdout", "y/abc/xyz/", "1i\\hello", "$a\\bye", "2c\\changed", "=", "-n $=", "n;d", "N;s/\\n/+/", "-e G", "1!G;h;$!d", "s/[aeiou]//Ig", "q", "3q5", "s/e/E/3", ":a;s/^\\(x*\\)a/\\1x/;ta", "-z s/\\n/,/g", "s/.*/\\U&/", "s/\\bt/T/g", "5,2p", "/a/{s//b/;p}", "l", "-s -n $p a b", "2,+1d", "0,/a/d", "s/x*/-/g", "s|/|:|g", "D", "P;D", "x;p;x", "s/a/\\n/", "e", "s/\\(/x/"]),
    ("seq", "e", &["5", "2 5", "1 2 10", "5 -1 1", "-w 8 11", "-s, 3", "1.5 3", "-f %03g 3", "0 0.1 0.5", "3 1", "1 0 3", "x", "-5 -3", "1e2 1e1 2e2", "9223372036854775806 9223372036854775808"]),
    ("sort", "t", &["", "-r", "-n n", "-k2 t", "-k3n t", "-k3,3nr -k1,1 t", "-u a", "-t_ -k2,2 t", "-f p", "-b -k2 t", "-h n", "-g n", "-V t", "-c a", "-c t", "-m a b", "-s -k1,1 t", "-d p", "-k1.2,1.3 t", "-z a", "-M p", "-R missing", "-nr n", "-uk1,1 t", "-C n", "-k2,2 -u t", "-n -k1.1 n", "-i x", "u e a"]),
    ("tac", "p", &["", "-s_ ", "a b", "u"]),
    ("tail", "p", &["", "-n3", "-n+3", "-c10", "-c+5", "-2", "-q a b", "a b", "-n0", "+2", "-n+0 a", "-r", "-n1 l", "-c3 -q a b", "-v a", "-c+3 a n", "-n2 missing a", "-n1K n", "-zn1 x", "-n-2 a"]),
    ("test", "e", &["", "x", "-n _", "-z a", "a = a", "a != a", "1 -eq 01", "2 -gt 10", "-f a", "-d d", "-e missing", "-s e", "! a", "a -a b", "a -o", "( a )", "-r a -a -f a", "a -nt b", "1 -eq x", "a < b", "-t 0", "! ( a = b )", "-x a"]),
    ("tr", "p", &["a-z A-Z", "-d a-e", "-s a-z", "-cd a-z", "-s _ \\n", "a-c x", "[:lower:] [:upper:]", "-c a-z_ .", "-ds a-e f-z", "\\141 X", "abc [x*]", "a", "z-a x", "[=a=] b", "-t abc x"]),
    ("uniq", "a", &["", "-c", "-d", "-u", "-i", "-f1 t", "-s1 a", "-w1 a", "-D", "--group a", "-z", "-cd"]),
    ("wc", "p", &["", "-l", "-w", "-c", "-m", "-L", "a b", "-lw a", "e", "u l", "missing"]),
    ("xargs", "p", &["echo", "-n2 echo", "-I{} echo <{}>", "-L2 echo", "-t -n100 echo", "-0 echo", "-d\\n -n1 echo", "-s100 echo", "-r echo", "-n1 false", "-E the echo", "-P2 -n50 true", "-x -n3 -s20 echo", "sh -c exit_255", "missing-program"]),
];

/// Calls whose result is known to differ, with what docs/utilities.md says of it.
#[rustfmt::skip] // one call a line
const KNOWN: &[(&str, &str)] = &[
    ("sed", "-n s/a/X/gpw_/dev/stdout"),
    ("sed", "-z s/\\n/,/g"),
    ("sed", "s/.*/\\U&/"),
    ("sed", "s/\\bt/T/g"),
    ("test", "a < b"),
    ("wc", ""),
    ("xargs", "-d\\n -n1 echo"),
];

/// A sequence of numbers that looks like chance and is the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn word(&mut self, letters: &[u8], longest: u64) -> String {
        let length = 1 + self.next(longest);
        (0..length)
            .map(|_| char::from(letters[usize::try_from(self.next(letters.len() as u64)).unwrap()]))
            .collect()
    }
}

fn files(directory: &Path, seed: u64) {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    for name in ["a", "b"] {
        let mut words: Vec<String> = (0..30).map(|_| numbers.word(b"abcde", 3)).collect();
        words.sort();
        write(name, (words.join("\n") + "\n").as_bytes());
    }
    let list: Vec<String> = (0..40)
        .map(|_| match numbers.next(4) {
            0 => format!("{}", numbers.next(1000)),
            1 => format!("-{}", numbers.next(50)),
            2 => format!("{}.{}", numbers.next(20), numbers.next(100)),
            _ => format!("{}K", numbers.next(9)),
        })
        .collect();
    write("n", (list.join("\n") + "\n").as_bytes());
    let table: String = (0..25)
        .map(|_| {
            format!("{} {} {}\n", numbers.word(b"abx", 2), numbers.word(b"abcXYZ:", 5), numbers.next(100))
        })
        .collect();
    write("t", table.as_bytes());
    let mut prose = String::from("the xy\nThe a.b abc/def\n\n");
    for _ in 0..40 {
        for _ in 0..numbers.next(8) {
            prose.push_str(&numbers.word(b"thexyaeioabAB1 ,", 9));
            prose.push(' ');
        }
        prose.push('\n');
    }
    write("p", prose.as_bytes());
    let bytes: Vec<u8> = (0..300).map(|_| u8::try_from(numbers.next(256)).unwrap()).collect();
    write("x", &bytes);
    let numbered: Vec<String> = (1..=120).map(|n| format!("line {n} {}\n", numbers.next(1000))).collect();
    write("m", numbered.concat().as_bytes());
    let mut changed = String::new();
    for (at, line) in numbered.iter().enumerate() {
        match numbers.next(12) {
            0 => {}
            1 => changed.push_str(&format!("changed {at}\n")),
            2 => changed.push_str(&format!("new {at}\n{line}")),
            _ => changed.push_str(line),
        }
    }
    write("k", changed.as_bytes());
    write("e", b"");
    write("u", b"one\ntwo");
    write("l", "long ".repeat(5000).as_bytes());
    fs::create_dir_all(directory.join("d/s/deep")).unwrap();
    for name in ["d/one.c", "d/two.h", "d/s/three.c", "d/s/deep/with\nnewline", "d/empty"] {
        fs::write(directory.join(name), if name == "d/empty" { "" } else { "a text\n" }).unwrap();
    }
}

fn run(program: &Path, name: &str, arguments: &[String], input: &Path, directory: &Path) -> Output {
    let mut command = Command::new(program);
    if program == Path::new(BINARY) {
        command.arg(name);
    }
    command.args(arguments).current_dir(directory).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC0");
    let input = fs::File::open(input).unwrap();
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("octant-{}-diff-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over in the temporary directory harms no later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// GNU's program of this name; the test does not pass without.
fn peer(name: &str) -> PathBuf {
    let (_, program, version, package) = PEERS.iter().find(|peer| peer.0 == name).unwrap();
    let path = Path::new("/usr/bin").join(program);
    let said = Command::new(&path).arg("--version").output();
    let said =
        said.unwrap_or_else(|error| panic!("{}: {error}: it is in the package {package}", path.display()));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains(version),
        "{}: this is not {version}, but {said:?}: it is in the package {package}",
        path.display()
    );
    path
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(300).collect()
}

/// Compares all calls of some utilities.
fn compare(wanted: &[&str]) {
    let mut failures = Vec::new();
    for (name, input, calls) in CALLS.iter().filter(|call| wanted.contains(&call.0)) {
        let theirs = peer(name);
        for call in *calls {
            let arguments: Vec<String> =
                call.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('_', " ")).collect();
            let known = KNOWN.contains(&(name, call));
            let mut same = true;
            for seed in 1..=SEEDS {
                let scratch = Scratch::new(&format!("{name}-{seed}"));
                files(&scratch.0, seed);
                let input = scratch.0.join(input);
                let a = run(&theirs, name, &arguments, &input, &scratch.0);
                let b = run(Path::new(BINARY), name, &arguments, &input, &scratch.0);
                if a.stdout == b.stdout && a.status.code() == b.status.code() {
                    continue;
                }
                same = false;
                if !known {
                    failures.push(format!(
                        "{name} {call}\n  GNU:  {:?} {:?} {:?}\n  ours: {:?} {:?} {:?}",
                        a.status.code(),
                        shown(&a.stdout),
                        shown(&a.stderr),
                        b.status.code(),
                        shown(&b.stdout),
                        shown(&b.stderr),
                    ));
                    break;
                }
            }
            if known && same {
                failures.push(format!("{name} {call}: is said to differ, and does not"));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn text_utilities_do_as_gnus() {
    compare(&[
        "comm", "cut", "diff", "expand", "fold", "head", "join", "nl", "od", "paste", "sort", "tac", "tail",
        "tr", "uniq", "wc",
    ]);
}

#[test]
fn utilities_of_scripts_do_as_gnus() {
    compare(&["date", "expr", "find", "printf", "seq", "test", "xargs"]);
}

/// A pattern made of parts that grep's dialects read in several ways. Left out is what POSIX leaves open and GNU's own engines
/// disagree on: repetition of nothing or of an anchor, an extended `)` that closes nothing, ranges of other than ASCII.
fn pattern(numbers: &mut Numbers, extended: bool) -> String {
    const PARTS: &[&str] = &[
        "a",
        "b",
        "ab",
        "é",
        ".",
        "^",
        "$",
        "\\(",
        "\\)",
        "|",
        "\\|",
        "[ab]",
        "[^a]",
        "[]b]",
        "[^]a]",
        "[a-c]",
        "(a|b)",
        "((a)b|é)",
        "[[:alpha:]]",
        "[[:space:]]",
        "[^[:alnum:]]",
        "\\<",
        "\\>",
        "\\b",
        "\\B",
        "\\w",
        "\\s",
        "\\.",
        "-",
        "x*",
        "1",
        "_",
        "[[=a=]]",
        "[[.-.]b]",
        "*",
        "+",
        "?",
        "\\+",
        "\\?",
        "{",
        "}",
        "{1}",
        "\\{1,2\\}",
        "{,2}",
        "{1,}",
        "\\{2\\}",
    ];
    const OPENING: &[&str] = &["", "\\(", "|", "\\|", "^", "$", "\\<", "\\>", "\\b", "\\B"];
    let mut text = String::new();
    let mut last = "";
    for _ in 0..1 + numbers.next(6) {
        let part = PARTS[usize::try_from(numbers.next(PARTS.len() as u64)).unwrap()];
        if !(OPENING.contains(&last) && part.ends_with(['*', '+', '?', '{', '}'])) {
            text.push_str(part);
            last = part;
        }
    }
    match numbers.next(5) {
        0 if extended => format!("({text})"),
        0 => format!("\\({text}\\)"),
        1 if extended => format!("{text}|ab"),
        2 if !extended => format!("\\(.\\)\\1{text}"),
        _ => text,
    }
}

#[test]
fn grep_reads_generated_patterns_as_gnus() {
    let theirs = peer("grep");
    let scratch = Scratch::new("patterns");
    let lines = "ab\na\n\nb a\naab abab\né\naéb ü\nx*y\na+b?\n(a)|b\n[ab]{1}\n]-^$\n \t_1a1\nabcba a.b\naa\\b{,2}\nABÉ\n";
    fs::write(scratch.0.join("lines"), lines).unwrap();
    let mut numbers = Numbers(0x5eed);
    let mut failures = Vec::new();
    for round in 0..PATTERNS {
        let extended = round % 2 == 0;
        let mut arguments = vec!["-an".to_owned(), if extended { "-E" } else { "-G" }.to_owned()];
        arguments.extend(
            ["-o", "-i", "-w", "-x", "-v", "-z"]
                .map(str::to_owned)
                .into_iter()
                .filter(|_| numbers.next(5) == 0),
        );
        let has = |arguments: &[String], option: &str| arguments.iter().any(|argument| argument == option);
        let pattern = pattern(&mut numbers, extended);
        // GNU's -o with -x prints empty matches, and its -z lets ^ and $ be within a line, in some of its engines.
        if (pattern.contains(['^', '$']) && has(&arguments, "-z"))
            || (has(&arguments, "-o") && has(&arguments, "-x"))
        {
            continue;
        }
        arguments.extend(["-e".to_owned(), pattern, "lines".to_owned()]);
        let locale = if numbers.next(3) == 0 { "C" } else { "C.UTF-8" };
        let said = |program: &Path| {
            let mut command = Command::new(program);
            if program == Path::new(BINARY) {
                command.arg("grep");
            }
            command.args(&arguments).current_dir(&scratch.0).env_clear().env("LC_ALL", locale);
            let output = command.stdin(Stdio::null()).output().unwrap();
            (output.status.code(), output.stdout)
        };
        let (a, b) = (said(&theirs), said(Path::new(BINARY)));
        if a != b {
            failures.push(format!(
                "{locale} {arguments:?}\n  GNU:  {:?} {:?}\n  ours: {:?} {:?}",
                a.0,
                shown(&a.1),
                b.0,
                shown(&b.1)
            ));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn sed_and_grep_do_as_gnus() {
    compare(&["grep", "sed"]);
}

#[test]
fn awk_does_as_gnus() {
    compare(&["awk"]);
}

#[test]
fn every_call_has_a_peer() {
    for (name, _, calls) in CALLS {
        assert!(PEERS.iter().any(|peer| peer.0 == *name) && calls.len() > 3, "{name}");
    }
    for (name, call) in KNOWN {
        assert!(CALLS.iter().any(|(other, _, calls)| other == name && calls.contains(call)), "{name} {call}");
    }
}

/// Writes to a program and gives back what it wrote.
fn filtered(program: &Path, name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(program);
    if program == Path::new(BINARY) {
        command.arg(name);
    }
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Who reads only a part of it closes it first.
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// The packers of this machine and ours read each other.
#[test]
fn compressed_streams_go_both_ways() {
    let mut numbers = Numbers(77);
    let text: Vec<u8> =
        (0..20_000).flat_map(|_| (numbers.word(b"abcdefgh ", 12) + "\n").into_bytes()).collect();
    let bytes: Vec<u8> = (0..50_000).map(|_| u8::try_from(numbers.next(256)).unwrap()).collect();
    let ours = Path::new(BINARY);
    for name in ["gzip", "bzip2", "xz", "zstd"] {
        let path = Path::new("/usr/bin").join(name);
        for input in [&b""[..], b"x", &text, &bytes] {
            for (pack, unpack) in [(ours, path.as_path()), (path.as_path(), ours), (ours, ours)] {
                let packed = filtered(pack, name, &["-c"], input);
                assert!(packed.status.success(), "{name}: {}", shown(&packed.stderr));
                let back = filtered(unpack, name, &["-dc"], &packed.stdout);
                assert!(back.status.success() && back.stdout == input, "{name}: {}", shown(&back.stderr));
            }
        }
    }
}

/// tar of this machine and ours read each other: names, permissions, times, links.
#[test]
fn archives_go_both_ways() {
    let scratch = Scratch::new("tar");
    let make = "mkdir -p d/s; echo one >d/f; ln d/f d/hard; ln -s f d/soft; ln -s /nowhere d/broken; mkfifo d/pipe; \
        touch -d @1000000000 d/f; chmod 4751 d/s; seq 30000 >d/s/big; mkdir d/$(printf '%090d' 1); echo x >d/$(printf '%090d' 1)/$(printf '%090d' 2); \
        echo y >\"d/new\nline\"; touch -d @5 d/s";
    let list = "find . -printf '%p %m %l %Ts %n %s\\n' | sort";
    let sh = |script: &str| {
        let output = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(&scratch.0)
            .env("O", BINARY)
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", shown(&output.stderr));
        output.stdout
    };
    sh(make);
    let wanted = sh(&format!("cd d && {list}"));
    for pack in [
        "tar cf a d",
        "$O tar cf a d",
        "$O tar -czf a d",
        "$O tar --zstd -cf a -C . d",
        "tar -cJf a d",
        "tar --format=pax -cf a d",
    ] {
        for unpack in ["$O tar xpf a -C x", "tar xpf a -C x"] {
            let found = sh(&format!("rm -rf x a; mkdir x; {pack} && {unpack} && cd x/d && {list}"));
            assert_eq!(shown(&found), shown(&wanted), "{pack}, {unpack}");
            assert_eq!(found, wanted, "{pack}, {unpack}");
        }
        let (theirs, ours) = (sh("tar tvf a"), sh("$O tar tvf a"));
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{pack}");
    }
    sh(
        "find d -depth -print0 | $O cpio -0 -o --quiet >c && rm -rf x && mkdir x && cd x && $O cpio -imd --quiet <../c && cmp ../d/s/big d/s/big && test d/f -ef d/hard && test -p d/pipe",
    );
}
