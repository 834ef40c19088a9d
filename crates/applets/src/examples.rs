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
    example("cat", &["f", "-"], "x\n", "b\na\nb\nx\n"),
    fails("chgrp", &["0", "missing"], 1),
    example("chmod", &["600", "f"], "", ""),
    fails("chown", &["0", "missing"], 1),
    fails("chroot", &["missing", "true"], 125),
    example("cksum", &["f"], "", "~ 6 f\n"),
    example("clear", &[], "", "~\u{1b}[2J"),
    example("cmp", &["f", "-"], "b\na\nb\n", ""),
    Example { name: "cmp", arguments: &["-s", "f", "-"], input: "b\na\nc\n", output: "", code: 1 },
    example("comm", &["-12", "-", "/dev/null"], "a\n", ""),
    example("cp", &["f", "g"], "", ""),
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
    example("dirname", &["/a/b"], "", "/a\n"),
    example("dmesg", &["--help"], "", "~Usage: dmesg"),
    example("du", &["-b", "f"], "", "6\tf\n"),
    example("echo", &["-n", "a", "b"], "", "a b"),
    example("egrep", &["-c", "^(a|x)$", "f"], "", "1\n"),
    example("env", &["-i", "A=1"], "", "A=1\n"),
    example("expand", &["-t4"], "a\tb\n", "a   b\n"),
    example("expr", &["6", "*", "7"], "", "42\n"),
    example("factor", &["42"], "", "42: 2 3 7\n"),
    fails("false", &[], 1),
    Example { name: "fetch", arguments: &["ftp://a/"], input: "", output: "", code: 3 },
    example("fgrep", &["-n", "a", "f"], "", "2:a\n"),
    example("find", &[".", "-name", "f", "-size", "-2", "-print"], "", "./f\n"),
    example("fmt", &["-w", "20"], "one\ntwo\n", "one two\n"),
    example("fold", &["-w2"], "abcd\n", "ab\ncd\n"),
    example("free", &["-m"], "", "~Mem:"),
    example("grep", &["-c", "b", "f"], "", "2\n"),
    Example { name: "grep", arguments: &["x", "f"], input: "", output: "", code: 1 },
    example("groups", &[], "", "~\n"),
    example("head", &["-n1", "f"], "", "b\n"),
    fails("host", &["-t", "nonsense", "a"], 1),
    example("hostid", &[], "", "~\n"),
    example("hostname", &[], "", "~\n"),
    example("id", &["-u"], "", "~\n"),
    example("install", &["-m", "600", "f", "g"], "", ""),
    example("ip", &["-o", "link", "show", "lo"], "", "~: lo: <LOOPBACK"),
    example("ip", &["-j", "addr"], "", "~\"ifname\":\"lo\""),
    fails("ip", &["frobnicate"], 1),
    example("join", &["-", "f"], "", ""),
    example("kill", &["-l", "15"], "", "TERM\n"),
    example("link", &["f", "g"], "", ""),
    example("ln", &["-s", "f", "g"], "", ""),
    fails("logname", &["extra"], 1),
    example("ls", &["-1"], "", "f\n"),
    example("md5sum", &[], "", "d41d8cd98f00b204e9800998ecf8427e  -\n"),
    example("mkdir", &["-p", "d/e"], "", ""),
    example("mkfifo", &["p"], "", ""),
    example("mknod", &["p", "p"], "", ""),
    example("mktemp", &["-p", ".", "x.XXXXXX"], "", "~./x."),
    example("mount", &[], "", "~ on / type "),
    example("mv", &["f", "g"], "", ""),
    fails("nc", &["a", "no-port"], 1),
    example("netstat", &["-tln"], "", "~Local Address:Port"),
    example("nice", &["-n", "1", "true"], "", ""),
    example("nl", &[], "x\n", "     1\tx\n"),
    example("nohup", &["--help"], "", "~nohup"),
    example("nproc", &[], "", "~\n"),
    example("numfmt", &["--to=iec", "2048"], "", "2.0K\n"),
    example("od", &["-An", "-tx1"], "a\n", " 61 0a\n"),
    example("paste", &["-sd,", "f"], "", "b,a,b\n"),
    example("pathchk", &["f"], "", ""),
    example("ping", &["-c", "1", "127.0.0.1"], "", "~1 packets transmitted, 1 received"),
    fails("ping", &["-c", "0", "a"], 2),
    fails("ping6", &["127.0.0.1"], 2),
    example("printenv", &["PATH"], "", "~/"),
    example("printf", &["%03d|%s\\n", "7", "x"], "", "007|x\n"),
    example("ps", &["aux"], "", "~COMMAND\n"),
    example("pwd", &[], "", "~/"),
    fails("readlink", &["f"], 1),
    example("realpath", &["f"], "", "~/f\n"),
    example("reset", &["--help"], "", "~Usage: reset"),
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
    example("ss", &["-tln"], "", "~Local Address:Port"),
    example("stat", &["-c", "%s %n", "f"], "", "6 f\n"),
    fails("stty", &["--bad-option"], 1),
    example("sum", &["f"], "", "~     1"),
    example("sync", &["f"], "", ""),
    example("tac", &["f"], "", "b\na\nb\n"),
    example("tail", &["-n", "2", "f"], "", "a\nb\n"),
    example("tee", &["g"], "x\n", "x\n"),
    example("test", &["1", "-lt", "2"], "", ""),
    Example { name: "timeout", arguments: &["0.05", "sleep", "9"], input: "", output: "", code: 124 },
    example("touch", &["g"], "", ""),
    example("tr", &["a-z", "A-Z"], "abc\n", "ABC\n"),
    example("true", &[], "", ""),
    example("truncate", &["-s", "0", "f"], "", ""),
    example("tsort", &[], "a b\nb c\n", "a\nb\nc\n"),
    Example { name: "tty", arguments: &[], input: "", output: "not a tty\n", code: 1 },
    fails("umount", &["missing"], 1),
    example("uname", &["-s"], "", "Linux\n"),
    example("unexpand", &["-a", "-t4"], "a       b\n", "a\t\tb\n"),
    example("uniq", &["-c"], "a\na\nb\n", "      2 a\n      1 b\n"),
    example("unlink", &["f"], "", ""),
    example("uptime", &[], "", "~load average:"),
    example("wc", &["-l", "f"], "", "3 f\n"),
    example("which", &["sh"], "", "~/sh\n"),
    example("whoami", &[], "", "~\n"),
    example("xargs", &["-n1", "echo", "x"], "1 2\n", "x 1\nx 2\n"),
    example("yes", &["--help"], "", "~yes"),
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
