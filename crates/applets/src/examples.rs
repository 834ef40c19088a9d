//! One runnable example for every utility, for the tests that call each by its name.

/// A call of a utility and what it must do.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The utility.
    pub name: &'static str,
    /// Its arguments. The call runs in an empty directory that has one file, `f` with the lines `b`, `a`, `b`.
    pub arguments: &'static [&'static str],
    /// What it reads on standard input.
    pub input: &'static str,
    /// What it must write: the whole of standard output, or a part of it when it starts with `~`.
    pub output: &'static str,
    /// Its exit code.
    pub code: i32,
}

const fn example(
    name: &'static str,
    arguments: &'static [&'static str],
    input: &'static str,
    output: &'static str,
) -> Example {
    Example { name, arguments, input, output, code: 0 }
}

const fn fails(name: &'static str, arguments: &'static [&'static str], code: i32) -> Example {
    Example { name, arguments, input: "", output: "", code }
}

/// At least one example for each utility.
#[rustfmt::skip] // one call a line
pub const EXAMPLES: &[Example] = &[
    example("[", &["-f", "f", "]"], "", ""),
    example("arch", &[], "", "~_64"),
    example("awk", &["-F:", "-v", "n=2", "{ s += $n } END { print s, NR }"], "a:1\nb:41\n", "42 2\n"),
    example("awk", &["/b/ { c[$1]++ } END { for (k in c) printf \"%s=%d\\n\", k, c[k] }", "f"], "", "b=2\n"),
    example("b2sum", &["f"], "", "~  f\n"),
    example("base32", &[], "octant", "N5RXIYLOOQ======\n"),
    example("base64", &[], "octant", "b2N0YW50\n"),
    example("basename", &["/a/b.c", ".c"], "", "b\n"),
    example("basenc", &["--base16"], "oc", "6F63\n"),
    fails("bunzip2", &["f"], 2),
    fails("bzcat", &["f"], 1),
    example("bzip2", &["f"], "", ""),
    example("cat", &["f", "-"], "x\n", "b\na\nb\nx\n"),
    fails("chgrp", &["0", "missing"], 1),
    example("chmod", &["600", "f"], "", ""),
    fails("chown", &["0", "missing"], 1),
    fails("chroot", &["missing", "true"], 125),
    example("cksum", &["f"], "", "~ 6 f\n"),
    example("clear", &[], "", "~\u{1b}[2J"),
    example("cmp", &["f", "-"], "b\na\nb\n", ""),
    Example { name: "cmp", arguments: &["-s", "f", "-"], input: "b\na\nc\n", output: "", code: 1 },
    example("column", &["-t"], "a bb\nccc d\n", "a    bb\nccc  d\n"),
    example("comm", &["-12", "-", "/dev/null"], "a\n", ""),
    example("cp", &["f", "g"], "", ""),
    example("cpio", &["-o", "--quiet"], "f\n", "~TRAILER!!!"),
    example("csplit", &["f", "2"], "", "2\n4\n"),
    example("cut", &["-d:", "-f2"], "a:b:c\n", "b\n"),
    example("date", &["-u", "-d", "@0", "+%Y-%m-%d"], "", "1970-01-01\n"),
    example("dd", &["if=f", "bs=2", "count=1", "status=none"], "", "b\n"),
    example("df", &["."], "", "~Mounted on"),
    Example { name: "diff", arguments: &["-U0", "f", "-"], input: "b
b
", output: "~-a
", code: 1 },
    example("diff", &["f", "f"], "", ""),
    example("dir", &[], "", "f\n"),
    example("dircolors", &["-b"], "", "~LS_COLORS='"),
    example("dirname", &["/a/b"], "", "/a\n"),
    example("dmesg", &["--help"], "", "~Usage: dmesg"),
    example("dos2unix", &[], "a\r\n", "a\n"),
    example("du", &["-b", "f"], "", "6\tf\n"),
    example("echo", &["-n", "a", "b"], "", "a b"),
    example("egrep", &["-c", "^(a|x)$", "f"], "", "1\n"),
    example("env", &["-i", "A=1"], "", "A=1\n"),
    example("expand", &["-t4"], "a\tb\n", "a   b\n"),
    example("expr", &["6", "*", "7"], "", "42\n"),
    example("factor", &["42"], "", "42: 2 3 7\n"),
    fails("false", &[], 1),
    example("fgrep", &["-n", "a", "f"], "", "2:a\n"),
    example("file", &["-b", "f"], "", "ASCII text\n"),
    example("find", &[".", "-name", "f", "-size", "-2", "-print"], "", "./f\n"),
    example("fmt", &["-w", "20"], "one\ntwo\n", "one two\n"),
    example("fold", &["-w2"], "abcd\n", "ab\ncd\n"),
    example("free", &["-m"], "", "~Mem:"),
    example("getopt", &["-o", "ab:", "--", "x", "-a", "-b", "1"], "", " -a -b '1' -- 'x'\n"),
    example("grep", &["-c", "b", "f"], "", "2\n"),
    Example { name: "grep", arguments: &["x", "f"], input: "", output: "", code: 1 },
    example("groups", &[], "", "~\n"),
    fails("gunzip", &["f"], 2),
    example("gzip", &["-k", "f"], "", ""),
    example("head", &["-n1", "f"], "", "b\n"),
    example("hexdump", &["-C", "f"], "", "~62 0a 61 0a 62 0a"),
    example("hostid", &[], "", "~\n"),
    example("hostname", &[], "", "~\n"),
    example("id", &["-u"], "", "~\n"),
    example("install", &["-m", "600", "f", "g"], "", ""),
    example("join", &["-", "f"], "", ""),
    example("kill", &["-l", "15"], "", "TERM\n"),
    example("less", &["f"], "", "b\na\nb\n"),
    example("link", &["f", "g"], "", ""),
    example("ln", &["-s", "f", "g"], "", ""),
    fails("logname", &["extra"], 1),
    example("ls", &["-1"], "", "f\n"),
    example("md5sum", &[], "", "d41d8cd98f00b204e9800998ecf8427e  -\n"),
    example("mkdir", &["-p", "d/e"], "", ""),
    example("mkfifo", &["p"], "", ""),
    example("mknod", &["p", "p"], "", ""),
    example("mktemp", &["-p", ".", "x.XXXXXX"], "", "~./x."),
    example("more", &[], "x\n", "x\n"),
    example("mount", &[], "", "~ on / type "),
    example("mv", &["f", "g"], "", ""),
    example("nice", &["-n", "1", "true"], "", ""),
    example("nl", &[], "x\n", "     1\tx\n"),
    example("nohup", &["--help"], "", "~nohup"),
    example("nproc", &[], "", "~\n"),
    example("numfmt", &["--to=iec", "2048"], "", "2.0K\n"),
    example("od", &["-An", "-tx1"], "a\n", " 61 0a\n"),
    example("paste", &["-sd,", "f"], "", "b,a,b\n"),
    example("pathchk", &["f"], "", ""),
    example("pinky", &["--help"], "", "~Usage: pinky"),
    example("pr", &["-t", "-2", "f"], "", "~b"),
    example("printenv", &["PATH"], "", "~/"),
    example("printf", &["%03d|%s\\n", "7", "x"], "", "007|x\n"),
    example("ps", &["aux"], "", "~COMMAND\n"),
    example("ptx", &[], "a word\n", "~word"),
    example("pwd", &[], "", "~/"),
    fails("readlink", &["f"], 1),
    example("realpath", &["f"], "", "~/f\n"),
    example("reset", &["--help"], "", "~Usage: reset"),
    example("rev", &[], "abc\n", "cba\n"),
    example("rm", &["-f", "f", "missing"], "", ""),
    fails("rmdir", &["missing"], 1),
    example("sed", &["-n", "-e", "s/\\(b\\)/<\\1>/p", "f"], "", "<b>\n<b>\n"),
    example("sed", &["-E", "/a/d;s/b+/c/"], "a\nbb\n", "c\n"),
    example("seq", &["-s,", "1", "3"], "", "1,2,3\n"),
    example("sha1sum", &[], "", "da39a3ee5e6b4b0d3255bfef95601890afd80709  -\n"),
    example("sha224sum", &[], "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7  -\n"),
    example("sha256sum", &[], "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n"),
    example("sha384sum", &[], "abc", "~cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"),
    example("sha512sum", &[], "abc", "~ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"),
    example("shred", &["-n1", "-u", "f"], "", ""),
    example("shuf", &["-n", "1", "-i", "5-5"], "", "5\n"),
    example("sleep", &["0"], "", ""),
    example("sort", &["-u", "f"], "", "a\nb\n"),
    example("sort", &["-k2,2nr"], "x 2\ny 10\n", "y 10\nx 2\n"),
    example("split", &["-l1", "f"], "", ""),
    example("stat", &["-c", "%s %n", "f"], "", "6 f\n"),
    example("strings", &["-n", "3"], "ab\u{1}abc", "abc\n"),
    fails("stty", &["--bad-option"], 1),
    example("sum", &["f"], "", "~     1"),
    example("sync", &["f"], "", ""),
    example("tac", &["f"], "", "b\na\nb\n"),
    example("tail", &["-n", "2", "f"], "", "a\nb\n"),
    example("tar", &["-cvf", "a.tar", "f"], "", "f\n"),
    fails("tar", &["-xf", "missing"], 2),
    example("tee", &["g"], "x\n", "x\n"),
    example("test", &["1", "-lt", "2"], "", ""),
    Example { name: "timeout", arguments: &["0.05", "sleep", "9"], input: "", output: "", code: 124 },
    example("touch", &["g"], "", ""),
    example("tr", &["a-z", "A-Z"], "abc\n", "ABC\n"),
    example("tree", &[], "", "~└── f"),
    example("true", &[], "", ""),
    example("truncate", &["-s", "0", "f"], "", ""),
    example("tsort", &[], "a b\nb c\n", "a\nb\nc\n"),
    Example { name: "tty", arguments: &[], input: "", output: "not a tty\n", code: 1 },
    fails("umount", &["missing"], 1),
    example("uname", &["-s"], "", "Linux\n"),
    example("unexpand", &["-a", "-t4"], "a       b\n", "a\t\tb\n"),
    example("uniq", &["-c"], "a\na\nb\n", "      2 a\n      1 b\n"),
    example("unix2dos", &[], "a\n", "a\r\n"),
    example("unlink", &["f"], "", ""),
    fails("unxz", &["-t", "f"], 1),
    fails("unzip", &["missing"], 9),
    fails("unzstd", &["missing.zst"], 1),
    example("uptime", &[], "", "~load average:"),
    example("users", &["missing"], "", "~"),
    example("vdir", &["-g", "f"], "", "~ 6 "),
    fails("vi", &["f"], 1),
    example("wc", &["-l", "f"], "", "3 f\n"),
    example("which", &["sh"], "", "~/sh\n"),
    example("who", &["missing"], "", ""),
    example("whoami", &[], "", "~\n"),
    example("xargs", &["-n1", "echo", "x"], "1 2\n", "x 1\nx 2\n"),
    example("xxd", &["-p", "f"], "", "620a610a620a\n"),
    example("xz", &["-9", "f"], "", ""),
    example("xzcat", &["--help"], "", "~Usage: xzcat"),
    example("yes", &["--help"], "", "~yes"),
    example("zcat", &["-f", "f"], "", "b\na\nb\n"),
    example("zstd", &["-q", "f"], "", ""),
    example("zstdcat", &["-f"], "x\n", "x\n"),
];

#[cfg(test)]
mod tests {
    use super::EXAMPLES;
    use crate::APPLETS;

    #[test]
    fn every_utility_has_an_example_and_every_example_a_utility() {
        for applet in APPLETS {
            assert!(EXAMPLES.iter().any(|example| example.name == applet.name), "{}", applet.name);
        }
        for example in EXAMPLES {
            assert!(APPLETS.iter().any(|applet| applet.name == example.name), "{}", example.name);
        }
    }
}
