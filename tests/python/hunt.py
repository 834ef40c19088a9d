"""Searches everything that an instance has for texts that nobody should find. hunt.py WANTED STATE...

WANTED has a line for each text: its name, and its bytes in hexadecimal with every bit turned, so that the file is not itself
found. Looked through are all memory, environments, command lines and names of what is mapped or open, of every process;
every file of the workstations, on all their mounts, that is newer than WANTED (none that is older can have what was made
after it); every file below each STATE; and standard input, which has what commands answered. Printed is a line for each
kind of place in which a text is, then how much was looked at. Run it as root in the instance's namespace of processes.
"""

import base64
import os
import re
import stat
import sys
import urllib.parse

PIECE = 8
CHUNK = 1 << 20


def pieces(text):
    """What any longer part of it has a whole one of, in each form; pieces depend on no neighbour."""
    found = set()
    for raw in (text, text[::-1]):
        for at in range(0, len(raw) - PIECE + 1, PIECE):
            piece = raw[at : at + PIECE]
            found |= {piece, piece.hex().encode(), piece.hex().upper().encode()}
            found.add("".join(f"%{byte:02X}" for byte in piece).encode())
            found.add("".join(f"%{byte:02x}" for byte in piece).encode())
            found.add(urllib.parse.quote(piece, safe="").encode())
            found.add(piece.decode().encode("utf-16-le"))
        for before in range(3):
            first, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                whole = encode(b"x" * before + raw)[first:end]
                found |= {whole[at : at + PIECE] for at in range(0, len(whole) - PIECE + 1, PIECE)}
    return found


class Hunt:
    def __init__(self, wanted):
        self.forms = [(name, piece) for name, text in wanted for piece in pieces(text)]
        self.longest = max(len(piece) for _, piece in self.forms)
        self.places, self.looked = {}, {}

    def look(self, kind, what, blocks):
        """Looks through pieces of one thing, which are searched together where they meet."""
        before = b""
        count = self.looked.setdefault(kind, [0, 0])
        count[0] += 1
        for block in blocks:
            count[1] += len(block)
            if not block.strip(b"\0"):
                before = b""
                continue
            both = before + block
            for name, piece in self.forms:
                if piece in both:
                    self.places.setdefault((name, kind), set()).add(what)
            before = both[-self.longest :]

    def text(self, kind, what, text):
        self.look(kind, what, [text])

    def file(self, kind, path):
        def blocks():
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as file:
                while block := file.read(CHUNK):
                    yield block

        try:
            self.look(kind, path, blocks())
        except OSError:
            pass  # It went meanwhile, or its driver gives nothing.

    def tree(self, kind, top, since):
        for dir, dirs, names in os.walk(top):
            if os.path.ismount(dir) and dir != top and not os.path.samefile(dir, top):
                dirs[:] = []  # A mount of its own is looked through by itself.
                continue
            for name in names:
                path = os.path.join(dir, name)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode) and status.st_ctime_ns >= since:
                    self.file(kind, path)
                self.text(kind + " name", path, name.encode(errors="surrogateescape"))

    def memory(self, kind, pid, since):
        """All of it that can be read: what a core dump would have, and more. What is mapped of an older file, and not to be
        written to, is as it was."""
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                words = line.split(maxsplit=5)
                if "w" not in words[1] and self.is_older(f"/proc/{pid}/root{words[-1].strip()}", since):
                    continue
                start, end = (int(word, 16) for word in words[0].split("-"))

                def blocks():
                    at = start
                    while at < end:
                        try:
                            block = os.pread(memory.fileno(), min(CHUNK, end - at), at)
                        except (OSError, OverflowError):
                            return  # Nothing is there, or nobody may see it (memfd_secret), or it is the kernel's.
                        if not block:
                            return
                        yield block
                        at += len(block)

                self.look(kind, f"{pid} {words[0]} {words[1]} {words[-1].strip()}", blocks())

    @staticmethod
    def is_older(path, since):
        try:
            # What PID 1 runs from is sealed, and has no name.
            return path.endswith("/memfd:octant (deleted)") or os.stat(path).st_ctime_ns < since
        except OSError:
            return False

    def process(self, pid, who, since):
        for name in ("environ", "cmdline", "maps"):
            self.file(f"{who} {name}", f"/proc/{pid}/{name}")
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                self.text(f"{who} open", str(pid), os.readlink(f"/proc/{pid}/fd/{fd}").encode())
            except OSError:
                pass
        self.memory(f"{who} memory", pid, since)


def line(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def everybody():
    """Every process but this one, each with what it is: a service by its name, and an agent's by that it is in another
    namespace of processes. The gate's child is the starter, and that one's are workers."""
    parents, names = {}, {}
    ours = os.readlink("/proc/self/ns/pid")
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            command = line(pid, "cmdline").split(b"\0")
            parents[pid] = int(re.search(rb"PPid:\s*(\d+)", line(pid, "status"))[1])
            inside = os.readlink(f"/proc/{pid}/ns/pid") != ours
        except OSError:
            continue
        if pid == os.getpid() or command == [b""]:
            continue
        service = command[command.index(b"svc") + 1].decode() if b"svc" in command else os.path.basename(command[0].decode())
        names[pid] = "agent" if inside else service
    gates = [pid for pid, name in names.items() if name == "egress" and parents[pid] == 1]
    starters = [pid for pid in names if parents[pid] in gates]
    names.update((pid, "gate") for pid in gates)
    names.update((pid, "starter") for pid in starters)
    names.update((pid, f"worker {pid}") for pid in names if parents[pid] in starters)
    return names


def mounts(pid):
    """Where the workstation of a process has something mounted that holds files."""
    for row in line(pid, "mountinfo").decode().splitlines():
        before, _, after = row.partition(" - ")
        if after.split()[0] not in ("proc", "sysfs", "devpts", "mqueue", "cgroup2"):
            yield before.split()[4]


def main():
    with open(sys.argv[1]) as file:
        rows = [row.split() for row in file]
        hunt = Hunt([(name, bytes(255 - byte for byte in bytes.fromhex(text))) for name, text in rows])
        since = os.fstat(file.fileno()).st_ctime_ns
    roots = {}
    for pid, who in sorted(everybody().items()):
        try:
            hunt.process(pid, who, since)
            if who == "agent":
                roots.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    for pid in roots.values():
        for place in mounts(pid):
            hunt.tree("agent files", f"/proc/{pid}/root{place}", since)
    for top in sys.argv[2:]:
        hunt.tree("state files", top, 0)
    hunt.text("answers", "standard input", sys.stdin.buffer.read())
    for (name, kind), places in sorted(hunt.places.items()):
        print(f"found {name} in {kind}: {' '.join(sorted(places)[:4])}")
    for kind, (things, count) in sorted(hunt.looked.items()):
        print(f"looked {kind}: {things} things, {count} bytes")


main()
