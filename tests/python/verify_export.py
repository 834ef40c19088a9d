#!/usr/bin/env python3
"""Verifies an export of Octant's ledger without any of Octant's code.

    verify_export.py FILE [--key KEY] [--witness KEY]... [--quorum N] [--checkpoint FILE]...

KEY is a verifier key (C2SP signed-note: NAME+ID+BASE64) or a file with one. What is read here follows docs/ledger.md,
RFC 8949 section 4.2.1 (deterministic CBOR), RFC 6962 section 2.1 (Merkle tree), and of C2SP signed-note,
tlog-checkpoint and tlog-cosignature. CBOR is cbor2's, the tree is pymerkle's, Ed25519 is cryptography's.

Prints one line of JSON. Exit 0: the file verifies. Exit 1: it does not, and `first_bad_seq` is the first entry that
cannot be relied on; null when the whole file cannot be. Exit 2: the command line is wrong.
"""

import argparse
import base64
import binascii
import hashlib
import json
import os
import sys

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import BaseMerkleTree, InclusionProof, InvalidProof, verify_inclusion

FORMAT = "octant-export-1"
LINE_MAX = 1 << 20
ENTRY_MAX = 65_535
ZEROS = bytes(32)
KINDS = (
    "boot unit intent outcome note lifecycle lost decision grant message seal erasure command config key archive".split()
)
LIFECYCLE, SEAL, KEY = KINDS.index("lifecycle"), KINDS.index("seal"), KINDS.index("key")
AID_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


class Wrong(Exception):
    """The export does not verify."""

    def __init__(self, why, seq=None, line=None):
        super().__init__(why)
        self.why, self.seq, self.line = why, seq, line


def need(condition, why, seq=None, line=None):
    if not condition:
        raise Wrong(why, seq, line)


def unbase64(text, why):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Wrong(why) from error
    need(base64.b64encode(raw).decode() == text, why)
    return raw


def number(text):
    """A decimal number without sign or leading zeros."""
    need(text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"), "a size is not a number")
    return int(text)


# Signed notes.


class Key:
    """A verifier key; algorithm 1 is Ed25519 over the text, 4 is a timestamped cosignature."""

    def __init__(self, text):
        self.text = text
        parts = text.split("+", 2)
        need(len(parts) == 3, "a key is not NAME+ID+BASE64")
        self.name, self.id, raw = parts[0], parts[1], unbase64(parts[2], "a key is not base 64")
        need(self.name and len(raw) > 1, "a key is empty")
        self.algorithm, self.public = raw[0], raw[1:]
        if self.algorithm in (1, 4):
            need(len(self.public) == 32, "an Ed25519 key has 32 bytes")
            made = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4].hex()
            need(made == self.id, f"the id of the key {self.name} is not made of it")

    def verify(self, text, signature):
        """Whether the signature (with its key id) over the text is this key's; of a cosignature, the time."""
        if signature[:4].hex() != self.id:
            return None
        body, message, time = signature[4:], text.encode(), True
        if self.algorithm == 4:
            if len(body) != 72:
                return None
            time = int.from_bytes(body[:8], "big")
            message, body = f"cosignature/v1\ntime {time}\n".encode() + message, body[8:]
        elif self.algorithm != 1:
            return None
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(body, message)
        except (InvalidSignature, ValueError):
            return None
        return time


class Checkpoint:
    """A signed checkpoint: origin, size, root, signatures."""

    def __init__(self, note):
        need(isinstance(note, str) and "\n\n" in note, "a checkpoint is not a signed note")
        text, signatures = note.rsplit("\n\n", 1)
        self.text = text + "\n"
        need(signatures.endswith("\n"), "a checkpoint's last signature has no newline")
        self.signatures = []
        for line in signatures[:-1].split("\n"):
            parts = line.split(" ")
            need(len(parts) == 3 and parts[0] == "\u2014", "a line of a checkpoint is not a signature")
            self.signatures.append((parts[1], unbase64(parts[2], "a signature is not base 64")))
        lines = text.split("\n")
        need(len(lines) >= 3 and all(lines), "a checkpoint has origin, size and root")
        self.origin, self.size = lines[0], number(lines[1])
        self.root = unbase64(lines[2], "a root is not base 64")
        need(len(self.root) == 32, "a root has 32 bytes")

    def signed_by(self, key, algorithm):
        """Whether this key has signed with this algorithm; of a cosignature, when."""
        if key.algorithm != algorithm:
            return None
        for name, signature in self.signatures:
            if name == key.name and (made := key.verify(self.text, signature)) is not None:
                return made
        return None


# Entries.


def is_number(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def is_digest(value):
    return isinstance(value, bytes) and len(value) == 32


def is_id(value):
    return isinstance(value, bytes) and len(value) == 16


def is_actor(value):
    if not isinstance(value, (list, tuple)) or not value or not is_number(value[0]):
        return False
    rest = list(value[1:])
    checks = {
        0: rest == [],
        1: len(rest) == 1 and is_number(rest[0]) and rest[0] < 1 << 32,
        2: len(rest) == 1 and isinstance(rest[0], str),
        3: len(rest) == 1 and is_id(rest[0]),
        4: len(rest) == 1 and is_number(rest[0]) and rest[0] < 1 << 32,
    }
    return checks.get(value[0], False)


def is_json(value):
    if not isinstance(value, str):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def is_outside(value):
    return isinstance(value, (list, tuple)) and len(value) == 2 and is_digest(value[0]) and is_number(value[1])


FIELDS = {
    0: lambda v: v == 2,
    1: lambda v: v == 1,
    2: is_number,
    3: is_id,
    4: is_number,
    5: is_number,
    6: is_actor,
    7: lambda v: is_number(v) and v < len(KINDS),
    8: is_digest,
    9: lambda v: v is True,
    10: is_number,
    11: is_id,
    12: is_number,
    13: is_digest,
    14: is_digest,
    15: is_digest,
    16: is_digest,
    17: is_json,
    18: is_digest,
    19: is_outside,
}


def read_entry(raw):
    """The map of an entry's canonical bytes."""
    need(len(raw) <= ENTRY_MAX, "it is longer than an entry can be")
    try:
        entry = cbor2.loads(raw)
    except Exception as error:  # Whatever cbor2 raises, the bytes are not an entry.
        raise Wrong("it is not CBOR") from error
    need(isinstance(entry, dict), "it is not a map")
    # Deterministic encoding has one form: encoding what was read has to give the same bytes.
    need(cbor2.dumps(entry, canonical=True) == raw, "it is not in canonical form")
    for key, value in entry.items():
        need(is_number(key) and key in FIELDS and FIELDS[key](value), f"its field {key!r} is not one of an entry")
    need(all(key in entry for key in range(9)), "a field is missing")
    need(len({11, 12, 13} & entry.keys()) in (0, 3), "it stands in half a partition")
    need(len({17, 18, 19} & entry.keys()) == 1, "it has no payload, or more than one")
    return entry


def aid_text(raw):
    """An agent's identifier: 26 digits of base 32 (Crockford)."""
    value, digits = int.from_bytes(raw, "big"), []
    for _ in range(26):
        value, digit = divmod(value, 32)
        digits.append(AID_DIGITS[digit])
    return "agent-" + "".join(reversed(digits))


class Leaves(BaseMerkleTree):
    """pymerkle's tree over leaf hashes alone: the entries are not kept."""

    def __init__(self):
        self.leaves = []
        super().__init__("sha256")

    def _encode_entry(self, data):
        return data

    def _store_leaf(self, data, digest):
        self.leaves.append(digest)
        return len(self.leaves)

    def _get_leaf(self, index):
        return self.leaves[index - 1]

    def _get_leaves(self, offset, width):
        return self.leaves[offset : offset + width]

    def _get_size(self):
        return len(self.leaves)


def sides(index, size):
    """For each hash of an inclusion proof whether it stands to the left (RFC 9162 section 2.1.3.2)."""
    found, fn, sn = [], index, size - 1
    while sn > 0:
        left = bool(fn & 1) or fn == sn
        found.append(int(left))
        while left and not fn & 1 and fn != 0:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    return found


def verify_proof(leaf, seq, checkpoint, proof):
    """By pymerkle, and by hand."""
    need(proof is not None, "it has no proof, and the export is not complete")
    need(isinstance(proof, list) and len(proof) <= 63, "its proof is not a list of at most 63 hashes")
    path = [leaf] + [unbase64(text, "its proof is not base 64") for text in proof]
    left = sides(seq - 1, checkpoint.size)
    need(len(left) == len(proof), "its proof has the wrong length")
    # pymerkle has one more bit, which nothing uses.
    made = InclusionProof("sha256", True, checkpoint.size, seq, left + [0], path)
    try:
        verify_inclusion(leaf, checkpoint.root, made, index=seq, size=checkpoint.size, algorithm="sha256")
    except InvalidProof as error:
        raise Wrong("it is not in the checkpoint's tree, or was altered") from error
    root = leaf
    for is_left, digest in zip(left, path[1:]):
        pair = digest + root if is_left else root + digest
        root = hashlib.sha256(b"\x01" + pair).digest()
    need(root == checkpoint.root, "its proof leads to another root")


# The file.


class Partitions:
    """The agents' entries: each continues the one before, a seal counts them."""

    def __init__(self, header):
        self.partial = header["from"] > 1
        self.open, self.sealed, self.seals = {}, set(), 0

    def accept(self, entry, leaf):
        if 11 not in entry:
            return need(entry[7] != SEAL, "it seals nobody")
        agent, seq, prev = entry[11], entry[12], entry[13]
        need(agent not in self.sealed, "it is about an agent whose partition was sealed before")
        if agent in self.open:
            count, head, tree = self.open[agent]
            need(seq == count + 1, "one of that agent's entries is missing before it")
            need(prev == head, "it follows another entry of that agent")
        elif self.partial and seq > 1:
            tree = None
        else:
            need(seq == 1, "one of that agent's entries is missing before it")
            need(prev == ZEROS and entry[7] == LIFECYCLE, "it does not open that agent's partition")
            tree = Leaves()
        if entry[7] == SEAL:
            self.seal(entry, tree)
            self.open.pop(agent, None)
            self.sealed.add(agent)
            return None
        if tree is not None:
            tree._store_leaf(None, leaf)
        self.open[agent] = (seq, leaf, tree)
        return None

    def seal(self, entry, tree):
        said = json.loads(entry.get(17, "null"))
        need(isinstance(said, dict), "it seals nothing")
        need((said.get("entries"), said.get("head")) == (entry[12] - 1, entry[13].hex()), "it seals other entries")
        if tree is not None:
            need(said.get("root") == tree.get_root().hex(), "it seals other entries")
            self.seals += 1


class Export:
    """The check of one file, line by line."""

    def __init__(self, args):
        self.key = args.key
        self.outside = args.checkpoint
        self.entries, self.last, self.suspect = 0, None, None
        self.payloads, self.absent, self.elsewhere = 0, 0, 0
        self.past = []

    def open(self, line):
        header = self.header = document(line)
        need(isinstance(header, dict) and header.get("format") == FORMAT, "this is not an export that is known here")
        shape = {
            "format": str, "origin": str, "key": str, "checkpoint": str, "witnesses": list, "quorum": int,
            "from": int, "to": int, "complete": bool,
        }
        need(header.keys() - {"agent"} == shape.keys(), "the first line has other members than an export's")
        need(all(type(header[name]) is kind for name, kind in shape.items()), "a member of the first line is odd")
        own = Key(header["key"])
        need(self.key is None or self.key.text == own.text, "the file's key is not the one that was given")
        self.signer = own
        self.checkpoint = checkpoint = Checkpoint(header["checkpoint"])
        need(checkpoint.origin == own.name == header["origin"], "the checkpoint is of another log")
        need(checkpoint.signed_by(own, 1) is not None, "the checkpoint's signature is wrong")
        first, last, size, agent = header["from"], header["to"], checkpoint.size, header.get("agent")
        need(1 <= first <= last + 1 <= size + 1, "the range is not one of the checkpoint's entries")
        if header["complete"]:
            need(agent is None and (first, last) == (1, size), "a complete export has every entry")
        self.complete, self.agent, self.next = header["complete"], agent, first
        self.partitions = Partitions(header)
        self.tree = Leaves() if self.complete else None

    def line(self, line):
        """One line after the first; whether it was the last."""
        row = None
        try:
            row = document(line)
            need(isinstance(row, dict), "the line is not one of an export")
            if row.keys() == {"end"}:
                self.suspected(None)
                need(row["end"] == self.entries, f"the last line does not count {self.entries} entries", self.next)
                missing = self.agent is None and self.next <= self.header["to"]
                need(not missing, "it is missing at the end", self.next)
                return True
            members = {"seq", "entry", "payload", "salt", "proof"}
            need({"seq", "entry"} <= row.keys() <= members, "the line is not one of an export")
            need(is_number(row["seq"]), "the line has no number")
        except Wrong as wrong:
            self.suspected(None)
            wrong.seq = wrong.seq or self.next
            raise
        self.entry(row)
        return False

    def suspected(self, named_next):
        """Of an entry that names another predecessor than is there: which of the two the entry after it confirms."""
        if self.suspect is None:
            return
        seq, leaf, line = self.suspect
        if named_next is not None and named_next != leaf:
            raise Wrong("it was altered: neither the entry before it nor the one after it fits it", seq, line)
        raise Wrong("it was altered: the entry after it names a predecessor of another hash", seq - 1, line - 1)

    def entry(self, row):
        seq, entry, broken, raw = row["seq"], None, None, b""
        try:
            raw = unbase64(row["entry"], "it is not base 64")
            entry = read_entry(raw)
        except Wrong as wrong:
            broken = wrong
        self.suspected(entry[8] if entry else None)
        in_range = self.next <= seq <= self.header["to"]
        need(in_range and (seq == self.next or self.agent is not None), f"entry {seq} stands in its place", self.next)
        try:
            if broken:
                raise broken
            need(entry[2] == seq, f"the entry on this line says that it is entry {entry[2]}")
            leaf = hashlib.sha256(b"\x00" + raw).digest()
            self.place(row, entry, raw, leaf)
            self.content(row, entry)
        except Wrong as wrong:
            wrong.seq = wrong.seq or seq
            raise
        self.last, self.next = (seq, leaf), seq + 1
        self.entries += 1

    def place(self, row, entry, raw, leaf):
        seq = entry[2]
        if self.complete:
            need("proof" not in row, "it has a proof in a complete export")
            self.tree.append_entry(raw)
            need(self.tree.get_leaf(seq) == leaf, "pymerkle has another leaf hash")
        else:
            verify_proof(leaf, seq, self.checkpoint, row.get("proof"))
        if self.agent is not None:
            need(11 in entry and aid_text(entry[11]) == self.agent, "it is about somebody else")
        before = (0, ZEROS) if seq == 1 else self.last
        if before is not None and before[0] == seq - 1 and before[1] != entry[8]:
            need(seq > 1, "the first entry names one before it")
            self.suspect = (seq, leaf, self.number)
            need(self.complete, "it was altered: it does not follow the entry before it")
            return
        self.partitions.accept(entry, leaf)

    def content(self, row, entry):
        payload, salt = row.get("payload"), row.get("salt")
        if 18 in entry and (payload is not None or salt is not None):
            need(isinstance(payload, str) and isinstance(salt, str), "half of its payload stands beside it")
            try:
                commitment = hashlib.sha256(bytes.fromhex(salt) + payload.encode()).digest()
            except ValueError as error:
                raise Wrong("its salt is not hexadecimal") from error
            need(commitment == entry[18], "its payload is not the one that it commits to")
            self.payloads += 1
        else:
            need(payload is None and salt is None, "a payload stands beside it that does not belong there")
            self.absent += 18 in entry
        self.elsewhere += 19 in entry
        if self.complete and entry[7] == KEY:
            self.change_key(entry)

    def change_key(self, entry):
        """A `key` entry: which key signs from here on, and which one it replaces."""
        said = json.loads(entry.get(17, "null"))
        need(isinstance(said, dict) and isinstance(said.get("key"), str), "it does not name a key")
        now, replaced = Key(said["key"]), said.get("replaces")
        old = self.past[-1][1] if self.past else None
        if replaced is not None:
            need(isinstance(replaced, dict) and isinstance(replaced.get("key"), str), "it replaces no key")
            old = Key(replaced["key"])
        self.past.append((old, now))

    def finish(self):
        agreed = self.compare()
        if self.complete:
            same = self.tree.get_root() == self.checkpoint.root
            need(same, "the root is another: this entry or a later one was altered, and the rest made to fit", agreed + 1)
            named = self.past[-1][1].text if self.past else self.signer.text
            need(named == self.signer.text, "the entries name another key than the one that signed")

    def compare(self):
        """With the checkpoints from outside; the size of the largest that fits."""
        agreed = 0
        keys = [self.signer] + [old for old, _ in self.past if old is not None]
        for name, outside in sorted(self.outside, key=lambda row: row[1].size):
            key = next((key for key in keys if key.name == outside.origin), None)
            signed = key is not None and outside.signed_by(key, 1) is not None
            need(signed, f"the outside checkpoint {name} is none of this log", agreed + 1)
            size = self.checkpoint.size
            why = f"cut: the outside checkpoint {name} covers {outside.size} entries, this export {size}"
            need(outside.size <= size, why, size + 1)
            if outside.size == size:
                root = self.checkpoint.root
            elif self.complete:
                root = self.tree.get_root(outside.size)
            else:
                continue
            why = f"the outside checkpoint {name} has another root over the first {outside.size} entries"
            need(root == outside.root, why, agreed + 1)
            agreed = outside.size
        return agreed


def document(line):
    def once(pairs):
        found = dict(pairs)
        need(len(found) == len(pairs), "a member stands twice on the line")
        return found

    try:
        return json.loads(line.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Wrong("the line is not JSON") from error


def lines_of(path):
    with open(path, "rb") as file:
        while line := file.readline(LINE_MAX + 2):
            body = line[:-1] if line.endswith(b"\n") else line
            need(len(body) <= LINE_MAX, f"a line is longer than {LINE_MAX} bytes")
            yield body


def verify(args):
    """Checks the file; what is known of it when nothing is wrong."""
    export, ended = Export(args), False
    number = 0
    try:
        for number, line in enumerate(lines_of(args.file), 1):
            export.number = number
            need(not ended, "something follows the last line")
            if number == 1:
                export.open(line)
            else:
                ended = export.line(line)
        if not ended:
            number += 1
            need(number > 1, "the file is empty")
            export.suspected(None)
            raise Wrong("the file ends before its last line: it was cut off", export.next)
        export.finish()
    except Wrong as wrong:
        wrong.line = wrong.line or number
        raise
    header, checkpoint = export.header, export.checkpoint
    known = args.witness or [Key(text) for text in header["witnesses"]]
    cosigned = {key.public: key.name for key in known if checkpoint.signed_by(key, 4) is not None}
    quorum = args.quorum
    if quorum is None:
        quorum = len(args.witness) if args.witness else header["quorum"]
    need(len(cosigned) >= quorum, f"not complete: {len(cosigned)} of {quorum} witnesses have cosigned")
    return {
        "ok": True,
        "entries": export.entries,
        "from": header["from"],
        "to": header["to"],
        "agent": export.agent,
        "complete": export.complete,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "head": export.last[1].hex() if export.last else ZEROS.hex(),
        "key_given": args.key is not None,
        "witnesses_given": bool(args.witness),
        "cosigned": sorted(cosigned.values()),
        "quorum": quorum,
        "outside": len(args.checkpoint),
        "payloads": export.payloads,
        "absent": export.absent,
        "elsewhere": export.elsewhere,
        "seals": export.partitions.seals,
    }


def key_argument(text):
    if os.path.isfile(text):
        with open(text, encoding="utf-8") as file:
            text = file.readline().strip()
    try:
        return Key(text)
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(wrong.why) from wrong


def checkpoint_argument(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return os.path.basename(path), Checkpoint(file.read(1 << 16))
    except (OSError, ValueError, Wrong) as error:
        raise argparse.ArgumentTypeError(f"{path} is not a checkpoint: {error}") from error


def main(argv):
    parser = argparse.ArgumentParser(description="Verifies an export of Octant's ledger.")
    parser.add_argument("file")
    parser.add_argument("--key", type=key_argument, help="the log's verifier key, or a file with it")
    parser.add_argument("--witness", type=key_argument, action="append", default=[], help="a witness's key")
    parser.add_argument("--quorum", type=int, help="how many witnesses must have cosigned")
    parser.add_argument("--checkpoint", type=checkpoint_argument, action="append", default=[], help="one kept outside")
    args = parser.parse_args(argv)
    try:
        result, code = verify(args), 0
    except Wrong as wrong:
        result, code = {"ok": False, "line": wrong.line, "first_bad_seq": wrong.seq, "why": wrong.why}, 1
    except OSError as error:
        result, code = {"ok": False, "line": None, "first_bad_seq": None, "why": str(error)}, 1
    print(json.dumps(result))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
