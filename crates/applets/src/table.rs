//! The one list of utilities.

use std::ffi::{OsStr, OsString};

/// A utility.
#[derive(Debug, Clone, Copy)]
pub struct Applet {
    /// The name by which it is called, exactly.
    pub name: &'static str,
    /// One line of what it does.
    pub about: &'static str,
    /// The name under which uucore keeps its texts (`[` has those of `test`).
    pub(crate) texts: &'static str,
    /// The function that does it, by its path, which begins with its crate.
    pub(crate) entry: &'static str,
    /// Runs it; the first argument is its name, the result its exit code.
    pub(crate) run: fn(Vec<OsString>) -> i32,
}

/// A crate in the uutils shape: `uumain(arguments) -> exit code`.
macro_rules! uu {
    ($name:literal, $texts:literal, $uumain:path, $about:literal) => {
        Applet {
            name: $name,
            about: $about,
            texts: $texts,
            entry: stringify!($uumain),
            run: {
                fn run(arguments: Vec<OsString>) -> i32 {
                    $uumain(arguments.into_iter())
                }
                run
            },
        }
    };
}

/// A function of this crate.
macro_rules! own {
    ($name:literal, $texts:literal, $run:path, $about:literal) => {
        Applet { name: $name, about: $about, texts: $texts, entry: stringify!($run), run: $run }
    };
}

/// The utility of exactly this name.
#[must_use]
pub fn find(name: &OsStr) -> Option<&'static Applet> {
    let name = name.to_str()?;
    APPLETS.binary_search_by(|applet| applet.name.cmp(name)).ok().map(|at| &APPLETS[at])
}

/// All utilities, sorted by name in byte order.
#[rustfmt::skip] // one utility a line
pub const APPLETS: &[Applet] = &[
    uu!("[", "test", uu_test::uumain, "Check file types and compare values (closing bracket needed)"),
    uu!("arch", "arch", uu_arch::uumain, "Print the machine's architecture"),
    own!("awk", "awk", crate::awk::awk, "Scan and process lines with a program"),
    uu!("b2sum", "b2sum", uu_b2sum::uumain, "Print or check BLAKE2 digests"),
    uu!("base32", "base32", uu_base32::uumain, "Encode or decode base 32"),
    uu!("base64", "base64", uu_base64::uumain, "Encode or decode base 64"),
    uu!("basename", "basename", uu_basename::uumain, "Strip directory and suffix from file names"),
    uu!("basenc", "basenc", uu_basenc::uumain, "Encode or decode in several bases"),
    own!("blkid", "blkid", crate::storage::blkid, "Say what is on block devices"),
    own!("blockdev", "blockdev", crate::storage::blockdev, "Ask or tell block devices"),
    own!("bunzip2", "bunzip2", crate::archive::bunzip2, "Decompress files of bzip2"),
    own!("bzcat", "bzcat", crate::archive::bzcat, "Decompress files of bzip2 to standard output"),
    own!("bzip2", "bzip2", crate::archive::bzip2, "Compress or decompress files with bzip2"),
    uu!("cat", "cat", uu_cat::uumain, "Concatenate files to standard output"),
    uu!("chgrp", "chgrp", uu_chgrp::uumain, "Change the group of files"),
    uu!("chmod", "chmod", uu_chmod::uumain, "Change the permissions of files"),
    uu!("chown", "chown", uu_chown::uumain, "Change the owner and group of files"),
    uu!("chroot", "chroot", uu_chroot::uumain, "Run a command with another root directory"),
    own!("chrt", "chrt", crate::process::chrt, "Show or set the scheduling policy of processes"),
    own!("chvt", "chvt", crate::system::chvt, "Bring a virtual terminal to the front"),
    uu!("cksum", "cksum", uu_cksum::uumain, "Print or check checksums"),
    own!("clear", "clear", crate::system::clear, "Clear the terminal"),
    own!("cmp", "cmp", crate::diff::cmp, "Compare two files byte by byte"),
    own!("column", "column", crate::text::column, "Lay out lines in columns or as a table"),
    uu!("comm", "comm", uu_comm::uumain, "Compare two sorted files line by line"),
    uu!("cp", "cp", uu_cp::uumain, "Copy files and directories"),
    own!("cpio", "cpio", crate::archive::cpio, "Keep files in an archive of the kernel's format, and get them back"),
    uu!("csplit", "csplit", uu_csplit::uumain, "Split a file into pieces by context"),
    uu!("cut", "cut", uu_cut::uumain, "Print selected parts of lines"),
    uu!("date", "date", uu_date::uumain, "Print or set the date and time"),
    uu!("dd", "dd", uu_dd::uumain, "Copy and convert a file by blocks"),
    uu!("df", "df", uu_df::uumain, "Show the space of file systems"),
    own!("diff", "diff", crate::diff::diff, "Show the differences between files or directories"),
    uu!("dir", "ls", uu_dir::uumain, "List directory contents in columns"),
    uu!("dircolors", "dircolors", uu_dircolors::uumain, "Print the colours of ls as a shell's variable"),
    uu!("dirname", "dirname", uu_dirname::uumain, "Strip the last component from file names"),
    own!("dmesg", "dmesg", crate::system::dmesg, "Print the kernel's messages"),
    own!("dos2unix", "dos2unix", crate::text::dos2unix, "Change ends of lines from those of DOS"),
    uu!("du", "du", uu_du::uumain, "Estimate the space that files use"),
    uu!("echo", "echo", uu_echo::uumain, "Print a line of text"),
    own!("egrep", "grep", crate::grep::egrep, "Print lines that match an extended pattern"),
    uu!("env", "env", uu_env::uumain, "Run a command in a changed environment, or print it"),
    uu!("expand", "expand", uu_expand::uumain, "Convert tabs to spaces"),
    uu!("expr", "expr", uu_expr::uumain, "Evaluate expressions"),
    uu!("factor", "factor", uu_factor::uumain, "Print the prime factors of numbers"),
    own!("fallocate", "fallocate", crate::storage::fallocate, "Reserve room for a file, or give it back"),
    uu!("false", "false", uu_false::uumain, "Do nothing, unsuccessfully"),
    own!("fetch", "fetch", crate::network::fetch, "Get what a URL names"),
    own!("fgrep", "grep", crate::grep::fgrep, "Print lines that contain a text"),
    own!("file", "file", crate::text::file, "Say what files seem to be"),
    own!("find", "find", crate::search::find, "Search for files in a directory tree"),
    own!("findmnt", "findmnt", crate::storage::findmnt, "Show mounted file systems as a tree, or find one"),
    own!("flock", "flock", crate::process::flock, "Hold a lock while a command runs"),
    uu!("fmt", "fmt", uu_fmt::uumain, "Reformat paragraphs"),
    uu!("fold", "fold", uu_fold::uumain, "Wrap lines to a width"),
    own!("free", "free", crate::system::free, "Show used and free memory"),
    own!("fsck", "fsck", crate::storage::fsck, "Check file systems by the program for their type"),
    own!("fstrim", "fstrim", crate::storage::fstrim, "Tell a device which blocks hold nothing"),
    own!("fuser", "fuser", crate::process::fuser, "Print which processes use files"),
    own!("getconf", "getconf", crate::system::getconf, "Print configuration values of the system"),
    own!("getopt", "getopt", crate::text::getopt, "Put the options of a shell script in order"),
    own!("grep", "grep", crate::grep::grep, "Print lines that match a pattern"),
    uu!("groups", "groups", uu_groups::uumain, "Print the groups of a user"),
    own!("gunzip", "gunzip", crate::archive::gunzip, "Decompress files of gzip"),
    own!("gzip", "gzip", crate::archive::gzip, "Compress or decompress files with gzip"),
    uu!("head", "head", uu_head::uumain, "Print the first part of files"),
    own!("hexdump", "hexdump", crate::text::hexdump, "Print bytes in hexadecimal and other forms"),
    own!("host", "host", crate::network::host, "Ask name servers for a name or an address"),
    uu!("hostid", "hostid", uu_hostid::uumain, "Print the host's numeric identifier"),
    uu!("hostname", "hostname", uu_hostname::uumain, "Print or set the host's name"),
    own!("hwclock", "hwclock", crate::system::hwclock, "Show or set the battery-backed clock"),
    uu!("id", "id", uu_id::uumain, "Print user and group identifiers"),
    own!("insmod", "insmod", crate::system::insmod, "Load one module into the kernel"),
    uu!("install", "install", uu_install::uumain, "Copy files and set attributes"),
    own!("ionice", "ionice", crate::process::ionice, "Show or set the class of input and output of processes"),
    own!("ip", "ip", crate::network::ip, "Show and change links, addresses, routes and neighbours"),
    uu!("join", "join", uu_join::uumain, "Join lines of two files on a common field"),
    uu!("kill", "kill", uu_kill::uumain, "Send a signal to processes"),
    own!("killall", "killall", crate::process::killall, "Send a signal to all processes of a name"),
    own!("less", "less", crate::text::less, "Show text by the screen, forwards and backwards"),
    uu!("link", "link", uu_link::uumain, "Make a hard link"),
    uu!("ln", "ln", uu_ln::uumain, "Make links"),
    own!("loadkmap", "loadkmap", crate::system::loadkmap, "Load the map of a keyboard"),
    own!("logger", "logger", crate::system::logger, "Write a message to the kernel's log"),
    uu!("logname", "logname", uu_logname::uumain, "Print the login name"),
    own!("losetup", "losetup", crate::storage::losetup, "Show, set up or take away loop devices"),
    uu!("ls", "ls", uu_ls::uumain, "List directory contents"),
    own!("lsblk", "lsblk", crate::storage::lsblk, "List block devices"),
    own!("lscpu", "lscpu", crate::system::lscpu, "Show the processors"),
    own!("lsmem", "lsmem", crate::system::lsmem, "Show the ranges of memory"),
    own!("lsmod", "lsmod", crate::system::lsmod, "List the modules in the kernel"),
    own!("lsns", "lsns", crate::process::lsns, "List namespaces"),
    own!("lsof", "lsof", crate::process::lsof, "List open files"),
    own!("lspci", "lspci", crate::system::lspci, "List PCI devices"),
    own!("lsusb", "lsusb", crate::system::lsusb, "List USB devices"),
    own!("mcookie", "mcookie", crate::system::mcookie, "Print 128 random bits"),
    uu!("md5sum", "md5sum", uu_md5sum::uumain, "Print or check MD5 digests"),
    own!("mesg", "mesg", crate::system::mesg, "Say whether others may write to this terminal"),
    uu!("mkdir", "mkdir", uu_mkdir::uumain, "Make directories"),
    uu!("mkfifo", "mkfifo", uu_mkfifo::uumain, "Make named pipes"),
    uu!("mknod", "mknod", uu_mknod::uumain, "Make special files"),
    own!("mkswap", "mkswap", crate::storage::mkswap, "Make a device or file into swap space"),
    uu!("mktemp", "mktemp", uu_mktemp::uumain, "Make a temporary file or directory"),
    own!("modinfo", "modinfo", crate::system::modinfo, "Show what a module says of itself"),
    own!("modprobe", "modprobe", crate::system::modprobe, "Load a module and what it needs"),
    own!("more", "more", crate::text::more, "Show text by the screen"),
    own!("mount", "mount", crate::storage::mount, "Mount a file system, or list what is mounted"),
    own!("mountpoint", "mountpoint", crate::storage::mountpoint, "Say whether a file system is mounted at a directory"),
    uu!("mv", "mv", uu_mv::uumain, "Move or rename files"),
    own!("nc", "nc", crate::network::nc, "Copy bytes to and from a socket"),
    own!("netstat", "ss", crate::network::netstat, "Show sockets, under the old name of ss"),
    uu!("nice", "nice", uu_nice::uumain, "Run a command with another scheduling priority"),
    uu!("nl", "nl", uu_nl::uumain, "Number lines"),
    uu!("nohup", "nohup", uu_nohup::uumain, "Run a command immune to hangups"),
    uu!("nproc", "nproc", uu_nproc::uumain, "Print the number of processors"),
    own!("nsenter", "nsenter", crate::process::nsenter, "Run a command in the namespaces of a process"),
    own!("ntp", "ntp", crate::network::ntp, "Ask time servers how far the clock is off"),
    uu!("numfmt", "numfmt", uu_numfmt::uumain, "Convert numbers from and to readable forms"),
    uu!("od", "od", uu_od::uumain, "Dump files in octal and other formats"),
    uu!("paste", "paste", uu_paste::uumain, "Merge lines of files"),
    uu!("pathchk", "pathchk", uu_pathchk::uumain, "Check whether file names are valid or portable"),
    own!("pgrep", "pgrep", crate::process::pgrep, "Find processes by name and other attributes"),
    own!("pidof", "pidof", crate::process::pidof, "Print the processes that run a program"),
    own!("ping", "ping", crate::network::ping, "Ask a host to answer, and measure how long it takes"),
    own!("ping6", "ping", crate::network::ping6, "Ask a host to answer over IPv6"),
    uu!("pinky", "pinky", uu_pinky::uumain, "Print who is logged in, in short"),
    own!("pivot_root", "pivot_root", crate::storage::pivot_root, "Make another directory the root of a namespace"),
    own!("pkill", "pkill", crate::process::pkill, "Send a signal to processes by name"),
    own!("pmap", "pmap", crate::process::pmap, "Show the memory map of processes"),
    uu!("pr", "pr", uu_pr::uumain, "Lay out files in pages and columns"),
    uu!("printenv", "printenv", uu_printenv::uumain, "Print the environment"),
    uu!("printf", "printf", uu_printf::uumain, "Format and print data"),
    own!("prlimit", "prlimit", crate::process::prlimit, "Show or set the limits of a process"),
    own!("ps", "ps", crate::process::ps, "List processes"),
    own!("pstree", "pstree", crate::process::pstree, "Show processes as a tree"),
    uu!("ptx", "ptx", uu_ptx::uumain, "Print an index of words with their context"),
    uu!("pwd", "pwd", uu_pwd::uumain, "Print the working directory"),
    own!("pwdx", "pwdx", crate::process::pwdx, "Print the working directory of processes"),
    uu!("readlink", "readlink", uu_readlink::uumain, "Print the value of a symbolic link"),
    uu!("realpath", "realpath", uu_realpath::uumain, "Print the resolved path"),
    own!("renice", "renice", crate::process::renice, "Change the nice value of running processes"),
    own!("reset", "reset", crate::system::reset, "Bring a garbled terminal back to its initial state"),
    own!("rev", "rev", crate::text::rev, "Print lines in reverse"),
    uu!("rm", "rm", uu_rm::uumain, "Remove files or directories"),
    uu!("rmdir", "rmdir", uu_rmdir::uumain, "Remove empty directories"),
    own!("rmmod", "rmmod", crate::system::rmmod, "Take modules out of the kernel"),
    own!("run-parts", "run-parts", crate::process::run_parts, "Run all programs of a directory"),
    uu!("sed", "sed", sed::sed::uumain, "Edit a stream of lines"),
    uu!("seq", "seq", uu_seq::uumain, "Print a sequence of numbers"),
    own!("setsid", "setsid", crate::process::setsid, "Run a command in a session of its own"),
    uu!("sha1sum", "sha1sum", uu_sha1sum::uumain, "Print or check SHA-1 digests"),
    uu!("sha224sum", "sha224sum", uu_sha224sum::uumain, "Print or check SHA-224 digests"),
    uu!("sha256sum", "sha256sum", uu_sha256sum::uumain, "Print or check SHA-256 digests"),
    uu!("sha384sum", "sha384sum", uu_sha384sum::uumain, "Print or check SHA-384 digests"),
    uu!("sha512sum", "sha512sum", uu_sha512sum::uumain, "Print or check SHA-512 digests"),
    uu!("shred", "shred", uu_shred::uumain, "Overwrite a file to hide its contents"),
    uu!("shuf", "shuf", uu_shuf::uumain, "Shuffle lines"),
    uu!("sleep", "sleep", uu_sleep::uumain, "Wait for an amount of time"),
    uu!("sort", "sort", uu_sort::uumain, "Sort lines"),
    uu!("split", "split", uu_split::uumain, "Split a file into pieces"),
    own!("ss", "ss", crate::network::ss, "Show sockets"),
    uu!("stat", "stat", uu_stat::uumain, "Show the status of files or file systems"),
    own!("strings", "strings", crate::text::strings, "Print what of files is text"),
    uu!("stty", "stty", uu_stty::uumain, "Show or change terminal settings"),
    own!("su", "su", crate::process::su, "Run a shell or a command as a lower user"),
    uu!("sum", "sum", uu_sum::uumain, "Print checksum and block counts"),
    own!("swapoff", "swapoff", crate::storage::swapoff, "Stop swapping to a device"),
    own!("swapon", "swapon", crate::storage::swapon, "Begin to swap to a device"),
    own!("switch_root", "switch_root", crate::storage::switch_root, "Go from an initial RAM disk to the real root"),
    uu!("sync", "sync", uu_sync::uumain, "Write cached data to disk"),
    own!("sysctl", "sysctl", crate::system::sysctl, "Show or change settings of the kernel"),
    uu!("tac", "tac", uu_tac::uumain, "Print files with the lines reversed"),
    own!("tail", "tail", crate::text::tail, "Print the last part of files"),
    own!("tar", "tar", crate::archive::tar, "Keep files in an archive, and get them back"),
    own!("taskset", "taskset", crate::process::taskset, "Show or set the processors of a process"),
    uu!("tee", "tee", uu_tee::uumain, "Copy standard input to files and standard output"),
    uu!("test", "test", uu_test::uumain, "Check file types and compare values"),
    own!("time", "time", crate::process::time, "Run a command and say how long it took"),
    own!("timeout", "timeout", crate::process::timeout, "Run a command with a time limit"),
    own!("top", "top", crate::process::top, "Show the busiest processes, again and again"),
    uu!("touch", "touch", uu_touch::uumain, "Change file times, or make files"),
    uu!("tr", "tr", uu_tr::uumain, "Translate or delete characters"),
    own!("tree", "tree", crate::text::tree, "Draw directories and what is in them"),
    uu!("true", "true", uu_true::uumain, "Do nothing, successfully"),
    uu!("truncate", "truncate", uu_truncate::uumain, "Shrink or extend files to a size"),
    uu!("tsort", "tsort", uu_tsort::uumain, "Sort topologically"),
    uu!("tty", "tty", uu_tty::uumain, "Print the terminal's name"),
    own!("umount", "umount", crate::storage::umount, "Detach file systems"),
    uu!("uname", "uname", uu_uname::uumain, "Print system information"),
    uu!("unexpand", "unexpand", uu_unexpand::uumain, "Convert spaces to tabs"),
    uu!("uniq", "uniq", uu_uniq::uumain, "Report or drop repeated lines"),
    own!("unix2dos", "unix2dos", crate::text::unix2dos, "Change ends of lines to those of DOS"),
    uu!("unlink", "unlink", uu_unlink::uumain, "Remove one file"),
    own!("unshare", "unshare", crate::process::unshare, "Run a command in new namespaces"),
    own!("unxz", "unxz", crate::archive::unxz, "Decompress files of xz"),
    own!("unzip", "unzip", crate::archive::unzip, "List and unpack zip archives"),
    own!("unzstd", "unzstd", crate::archive::unzstd, "Decompress files of zstd"),
    own!("uptime", "uptime", crate::system::uptime, "Print how long the machine has been up, and its load"),
    uu!("users", "users", uu_users::uumain, "Print the names of users who are logged in"),
    own!("uuidgen", "uuidgen", crate::system::uuidgen, "Print a new identifier"),
    uu!("vdir", "ls", uu_vdir::uumain, "List directory contents in long form"),
    own!("verity", "verity", crate::storage::verity, "Check a device against its hash tree, or make one"),
    own!("vi", "vi", crate::text::vi, "Edit a file on the screen"),
    own!("vmstat", "vmstat", crate::process::vmstat, "Show memory, input and output, and processors"),
    own!("watch", "watch", crate::process::watch, "Run a command again and again"),
    uu!("wc", "wc", uu_wc::uumain, "Count lines, words and bytes"),
    own!("which", "which", crate::search::which, "Print the path of commands"),
    uu!("who", "who", uu_who::uumain, "Print who is logged in"),
    uu!("whoami", "whoami", uu_whoami::uumain, "Print the current user's name"),
    own!("xargs", "xargs", crate::search::xargs, "Run commands with arguments read from standard input"),
    own!("xxd", "xxd", crate::text::xxd, "Print bytes as hexadecimal digits, or make bytes of them"),
    own!("xz", "xz", crate::archive::xz, "Compress or decompress files with xz"),
    own!("xzcat", "xzcat", crate::archive::xzcat, "Decompress files of xz to standard output"),
    uu!("yes", "yes", uu_yes::uumain, "Print a line until killed"),
    own!("zcat", "zcat", crate::archive::zcat, "Decompress files of gzip to standard output"),
    own!("zstd", "zstd", crate::archive::zstd, "Compress or decompress files with zstd"),
    own!("zstdcat", "zstdcat", crate::archive::zstdcat, "Decompress files of zstd to standard output"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_name_twice() {
        assert!(APPLETS.windows(2).all(|two| two[0].name < two[1].name));
        assert!(APPLETS.len() >= 100, "{} utilities", APPLETS.len());
    }

    #[test]
    fn a_name_is_matched_exactly() {
        for applet in APPLETS {
            assert_eq!(find(OsStr::new(applet.name)).map(|found| found.name), Some(applet.name));
        }
        for other in ["evil-ls", "ls ", "LS", "l", "", "lss", "./ls", "\u{6c}\u{301}s"] {
            assert!(find(OsStr::new(other)).is_none(), "{other:?} is taken for a utility");
        }
    }

    #[test]
    fn every_utility_says_what_it_does() {
        for applet in APPLETS {
            assert!(applet.about.len() > 8, "{} has no description", applet.name);
            assert!(!applet.about.ends_with('.'), "{}: a description has no full stop", applet.name);
        }
    }
}
