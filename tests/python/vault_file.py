#!/usr/bin/env python3
"""Opens and makes files of Octant's vault without any of Octant's code, as docs/vault.md describes them.

    vault_file.py open FILE WAY
    vault_file.py make FILE CONTENTS [WAY]... [--shares K/N]

A WAY is --passphrase FILE, --key-file FILE or --share-file FILE (a share a line; only to open): others see a
command line, so what is secret stands in files. `open` prints everything but leases as JSON, with values in base 64.
`make` takes JSON of that form (at least `secrets`, each with `name` and `values`), gives the vault an identifier, a
data key and salts of its own, and prints what there is to keep of it; FILE must not be there yet.

AES-GCM, HKDF and Ed25519 are cryptography's, Argon2 is argon2-cffi's.

Prints one line of JSON. Exit 0: done. Exit 1: it is no vault, was changed, or does not open with that; `why` says
which. Exit 2: the command line is wrong.
"""

import argparse
import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import secrets
import sys
import time

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAGIC = b"OCTVLT1\n"
HEADER_MAX, FRAME_MAX, FILE_MAX = 256 << 10, 4 << 20, 1 << 30
SALT, TAG, MAC, HEAD = 32, 16, 32, 16
VALUE_MAX, TEXT_MAX, SLOTS_MAX = 64 << 10, 512, 16
COST_LOW, COST_HIGH, WORK_MAX = (65_536, 3, 1), (2_097_152, 64, 16), 16 << 20
COST = {"memory_kib": 65_536, "passes": 3, "lanes": 1}
SHARE = "octant-share-1-"


class Wrong(Exception):
    """It is no vault, was changed, or does not open with that."""


def need(condition, why):
    if not condition:
        raise Wrong(why)


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def is_number(value, most=2**64 - 1):
    return type(value) is int and 0 <= value <= most


def members(thing, named, optional=(), what="an object"):
    """Exactly these members, of which the optional ones may be missing."""
    need(isinstance(thing, dict), f"{what} is not an object")
    missing, more = set(named) - set(thing), set(thing) - set(named) - set(optional)
    need(not missing and not more, f"{what}: missing {sorted(missing)}, unknown {sorted(more)}")
    return thing


def parsed(text, what):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), f"{what}: a member is there twice")
        return dict(pairs)

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{what} is not JSON") from error


def unhex(text, length):
    need(isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text), f"not {2 * length} digits")
    return bytes.fromhex(text)


# What seals and derives.


def framed(*parts):
    return b"".join(u32(len(part)) + part for part in parts)


def hkdf(key, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


def one_use(key, salt, info):
    okm = hkdf(key, salt, framed(b"octant seal 1", *info), 44)
    return AESGCM(okm[:32]), okm[32:]


def seal(key, salt, info, aad, text):
    cipher, nonce = one_use(key, salt, info)
    return cipher.encrypt(nonce, text, framed(*aad))


def unseal(key, salt, info, aad, sealed, what):
    cipher, nonce = one_use(key, salt, info)
    try:
        return cipher.decrypt(nonce, sealed, framed(*aad))
    except InvalidTag as error:
        raise Wrong(f"{what} does not open") from error


def subkey(key, salt, *info):
    return hkdf(key, salt, framed(b"octant subkey 1", *info), 32)


def mac(key, *parts):
    return hmac.digest(key, framed(b"octant mac 1", *parts), "sha256")


def crc32c(data):
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


# Recovery shares.


def multiply(a, b):
    """In GF(2^8), the field of AES."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << bit - 8
    return product


def inverse(a):
    power = 1
    for _ in range(254):
        power = multiply(power, a)
    return power


def split(secret, threshold, count):
    """The values at 1 to `count` of a polynomial for each byte, whose value at 0 is the byte."""
    polynomials = [[byte, *secrets.token_bytes(threshold - 1)] for byte in secret]
    values = []
    for x in range(1, count + 1):
        y = bytearray()
        for polynomial in polynomials:
            value = 0
            for coefficient in reversed(polynomial):
                value = multiply(value, x) ^ coefficient
            y.append(value)
        values.append((x, bytes(y)))
    return values


def combine(points):
    """The value at 0 of the polynomial through these points."""
    secret = bytes(32)
    for x, y in points:
        weight = 1
        for other, _ in points:
            if other != x:
                weight = multiply(weight, multiply(other, inverse(other ^ x)))
        secret = bytes(a ^ multiply(weight, b) for a, b in zip(secret, y))
    return secret


def checksum(checked):
    return hashlib.sha256(SHARE.encode() + checked).digest()[:4]


def share_text(label, x, y):
    checked = label + bytes([x]) + y
    text = base64.b32encode(checked + checksum(checked)).decode().rstrip("=").lower()
    return SHARE + "-".join(text[at : at + 5] for at in range(0, len(text), 5))


def read_share(text):
    """The label, the number and the values of a share."""
    bare = "".join(text.split()).replace("-", "").lower()
    need(bare.startswith("octantshare1"), "it is no share of a vault")
    body = bare.removeprefix("octantshare1")
    need(re.fullmatch("[a-z2-7]{108}", body), "a share has 108 letters a to z and digits 2 to 7")
    raw = base64.b32decode(body.upper() + "====")
    need(base64.b32encode(raw).decode().rstrip("=").lower() == body, "a share's last character is wrong")
    need(checksum(raw[:-4]) == raw[-4:], "a share's checksum differs")
    return raw[:30], raw[30], raw[31:63]


# Slots.


def check_slots(header):
    slots, work = header["slots"], 0
    need(isinstance(slots, list) and 1 <= len(slots) <= SLOTS_MAX, "there are 1 to 16 slots")
    for slot in slots:
        members(slot, ("slot", "created_ms", "salt", "commit", "wrapped", "lock"), ("label",), "a slot")
        need(is_number(slot["slot"], header["next_slot"] - 1) and is_number(slot["created_ms"]), "a slot's number")
        label = slot.get("label", "")
        need(isinstance(label, str) and len(label.encode()) <= TEXT_MAX, "a slot's label")
        unhex(slot["salt"], 32), unhex(slot["commit"], 32), unhex(slot["wrapped"], 48)
        work += check_lock(slot["lock"])
    need(len({slot["slot"] for slot in slots}) == len(slots), "a slot is there twice")
    need(work <= WORK_MAX, "the passphrases cost too much in all")


def check_lock(lock):
    """Gives what it costs to try the lock."""
    kind = lock.get("kind") if isinstance(lock, dict) else None
    if kind == "passphrase":
        cost = members(members(lock, ("kind", "cost"))["cost"], ("memory_kib", "passes", "lanes"), (), "a cost")
        parts = (cost["memory_kib"], cost["passes"], cost["lanes"])
        need(all(map(is_number, parts)), "a cost is no number")
        within = all(low <= part <= high for low, part, high in zip(COST_LOW, parts, COST_HIGH))
        need(within, f"a passphrase of {parts} costs too little or too much")
        return parts[0] * parts[1]
    if kind == "shares":
        members(lock, ("kind", "threshold", "count", "set"))
        threshold, count = lock["threshold"], lock["count"]
        need(is_number(threshold, 16) and is_number(count, 16) and 2 <= threshold <= count, "shares of no set")
        unhex(lock["set"], 8)
    else:
        need(kind in ("tpm", "static_file"), "a lock of no kind")
        members(lock, ("kind", "sealed") if kind == "tpm" else ("kind",))
    return 0


def passphrase_key(passphrase, salt, cost):
    need(1 <= len(passphrase) <= 1024, "a passphrase has 1 to 1024 bytes")
    return hash_secret_raw(
        passphrase, salt, cost["passes"], cost["memory_kib"], cost["lanes"], 32, Type.ID, version=19
    )


def label_of(header, slot):
    lock = slot["lock"]
    vault, shares = unhex(header["vault"], 16), bytes([lock["threshold"], lock["count"]])
    return vault + u32(slot["slot"]) + unhex(lock["set"], 8) + shares


def shares_key(shares, label, threshold):
    points = {x: y for mine, x, y in map(read_share, shares) if mine == label}
    need(len(points) >= threshold, f"{len(points)} shares are there, and {threshold} are needed")
    return combine(list(points.items())[:threshold])


def bound(header, slot, what):
    vault, number = unhex(header["vault"], 16), u32(slot["slot"])
    return [b"octant vault 1 " + what, vault, number, slot["lock"]["kind"].encode()]


def data_key(header, kind, given):
    """The data key and the slot that gave it."""
    why = f"there is no {kind} slot"
    for slot in header["slots"]:
        lock, salt = slot["lock"], unhex(slot["salt"], 32)
        if lock["kind"] != kind:
            continue
        if kind == "passphrase":
            own = passphrase_key(given, salt, lock["cost"])
        elif kind == "static_file":
            own = hashlib.sha256(given).digest()
        else:
            own = shares_key(given, label_of(header, slot), lock["threshold"])
        commit = subkey(own, salt, *bound(header, slot, b"commitment"))
        if hmac.compare_digest(commit, unhex(slot["commit"], 32)):
            aad, wrapped = [u64(header["key"])], unhex(slot["wrapped"], 48)
            return unseal(own, salt, bound(header, slot, b"slot"), aad, wrapped, "a slot"), slot["slot"]
        why = f"slot {slot['slot']} does not open with that"
    raise Wrong(why)


def wrap(header, number, lock, salt, own, key):
    slot = {"slot": number, "created_ms": now(), "salt": salt.hex(), "lock": lock}
    slot["commit"] = subkey(own, salt, *bound(header, slot, b"commitment")).hex()
    slot["wrapped"] = seal(own, salt, bound(header, slot, b"slot"), [u64(header["key"])], key).hex()
    return slot


# The file.


def read_header(data):
    """The header, the bytes of its text, its MAC, and where the frames begin."""
    need(data.startswith(MAGIC), "it does not begin as a vault of form 1 does")
    length = int.from_bytes(data[8:12], "big")
    need(len(data) >= 12 and length <= HEADER_MAX and len(data) >= 12 + length + MAC, "the header is cut or too long")
    text, end = data[12 : 12 + length], 12 + length + MAC
    named = ("vault", "key", "epoch", "frames", "created_ms", "machine", "next_slot", "slots")
    header = members(parsed(text, "the header"), named, (), "the header")
    unhex(header["vault"], 16), unhex(header["machine"], 32)
    most = {"key": 1 << 62, "epoch": 1 << 62, "frames": 2**32 - 1, "created_ms": 2**64 - 1, "next_slot": 1 << 31}
    need(all(is_number(header[name], limit) for name, limit in most.items()), "a number of the header")
    check_slots(header)
    return header, text, data[end - MAC : end], end


def header_mac(header, key, text):
    return mac(subkey(key, unhex(header["vault"], 16), b"octant vault 1 header"), MAGIC, text)


def frame_bound(header, epoch, link):
    info = [b"octant vault 1 frame", unhex(header["vault"], 16), u64(epoch)]
    return info, [link, u64(header["key"])]


def read_frames(data, at, header, key, link):
    """The contents of the frames, the last epoch, and how many bytes behind them were never finished."""
    contents, epoch = [], header["epoch"]
    while at < len(data):
        head, body = data[at : at + HEAD], at + HEAD + SALT
        if len(head) < HEAD or not any(data[at:]):
            break
        length, claimed = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:12], "big")
        need(u32(crc32c(head[:12])) == head[12:], f"at {at}: the checksum of a frame's head differs")
        need(TAG <= length <= FRAME_MAX + TAG, f"at {at}: a frame of {length} bytes")
        expected = epoch if len(contents) < header["frames"] else epoch + 1
        need(claimed == expected, f"at {at}: a frame is missing, or there twice")
        if len(data) < body + length:
            break
        sealed = data[body : body + length]
        info, aad = frame_bound(header, claimed, link)
        contents.append(unseal(key, data[at + HEAD : body], info, aad, sealed, f"at {at}: a frame"))
        at, link, epoch = body + length, sealed[-16:], claimed
    need(len(contents) >= header["frames"], f"it was cut: {len(contents)} of {header['frames']} first frames")
    return contents, epoch, len(data) - at


def changes(content):
    """The texts and the values beside them."""
    parts, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        need(at + 4 + length <= len(content), "a frame ends within a part")
        parts.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    need(len(parts) % 2 == 0, "a frame ends within a change")
    return [(parsed(text, "a change"), value) for text, value in zip(parts[::2], parts[1::2])]


MEMBERS = {
    "machine": (("public", "created_ms", "facts"), ()),
    "secret": (("secret",), ()),
    "value": (("name", "version"), ()),
    "remove": (("name",), ()),
    "grant": (("grant",), ()),
    "ungrant": (("id",), ()),
    "lease": (("lease",), ()),
    "extend": (("token",), ("until_ns",)),
    "release": (("token",), ()),
    "retire": (("holder",), ()),
    "seen": (("ledger", "wall_ms", "grants"), ()),
}


class State:
    """What all changes come to, but for leases. Values are sealed still."""

    def __init__(self):
        self.machine, self.secrets, self.values, self.grants, self.next_grant = None, {}, {}, {}, 1

    def apply(self, change, value):
        op = change.get("op") if isinstance(change, dict) else None
        need(op in MEMBERS, "a change of no kind")
        named, optional = MEMBERS[op]
        members(change, ("op", *named), optional, op)
        getattr(self, f"on_{op}", lambda *_: None)(change, value)

    def on_machine(self, change, value):
        self.machine = (change, value)

    def on_secret(self, change, _):
        info = change["secret"]
        alive = {version["version"] for version in info["versions"] if version["state"] != "destroyed"}
        kept = self.values.get(info["name"], {})
        self.secrets[info["name"]] = info
        self.values[info["name"]] = {number: kept[number] for number in kept if number in alive}

    def on_value(self, change, value):
        need(change["name"] in self.secrets, "a value of a secret that is not there")
        self.values[change["name"]][change["version"]] = value

    def on_remove(self, change, _):
        self.secrets.pop(change["name"], None)
        self.values.pop(change["name"], None)
        self.ungrant(lambda grant: grant["name"] == change["name"])

    def on_grant(self, change, _):
        new = change["grant"]
        self.ungrant(lambda old: (old["to"], old["name"]) == (new["to"], new["name"]))
        self.grants[new["id"]] = new
        self.next_grant = max(self.next_grant, new["id"] + 1)

    def on_ungrant(self, change, _):
        self.ungrant(lambda grant: grant["id"] == change["id"])

    def ungrant(self, gone):
        self.grants = {number: grant for number, grant in self.grants.items() if not gone(grant)}

    def on_seen(self, change, _):
        self.next_grant = max(self.next_grant, change["grants"])


def state_of(contents):
    state = State()
    for change, value in itertools.chain.from_iterable(map(changes, contents)):
        state.apply(change, value)
    return state


def value_bound(header, info, version):
    vault, name, kind = unhex(header["vault"], 16), info["name"].encode(), info["kind"].encode()
    number, end = u64(version["version"]), u64(version.get("not_after_ms") or 0)
    return [b"octant vault 1 value", vault], [vault, name, number, end, kind]


def opened_values(header, key, state, name):
    """The values of a secret, in base 64, by version."""
    info, values = state.secrets[name], {}
    for version in info["versions"]:
        sealed = state.values[name].get(version["version"])
        if sealed is not None:
            info_parts, aad = value_bound(header, info, version)
            what = f"version {version['version']} of {name}"
            value = unseal(key, sealed[:SALT], info_parts, aad, sealed[SALT:], what)
            values[str(version["version"])] = base64.b64encode(value).decode()
    return values


def public_of(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def opened_machine(header, key, state):
    need(state.machine is not None, "it has no machine's identity")
    machine, sealed = state.machine
    need(machine["public"] == header["machine"], "it names another machine than its header does")
    public = unhex(machine["public"], 32)
    info = [b"octant vault 1 machine", unhex(header["vault"], 16)]
    seed = unseal(key, sealed[:SALT], info, [public], sealed[SALT:], "the machine's seed")
    need(len(seed) == 32 and public_of(seed) == public, "the machine's seed is another one's")
    return {name: machine[name] for name in ("public", "created_ms", "facts")} | {
        "seed": base64.b64encode(seed).decode()
    }


def open_vault(data, kind, given):
    """Everything that is in a vault."""
    need(len(data) <= FILE_MAX, "it has more bytes than a vault has")
    header, text, kept, at = read_header(data)
    key, slot = data_key(header, kind, given)
    need(hmac.compare_digest(header_mac(header, key, text), kept), "its header was changed")
    contents, epoch, torn = read_frames(data, at, header, key, kept[-16:])
    state = state_of(contents)
    machine = opened_machine(header, key, state)
    return {
        "vault": header["vault"],
        "key": header["key"],
        "epoch": epoch,
        "torn": torn,
        "slot": slot,
        "slots": [{"slot": slot["slot"], "kind": slot["lock"]["kind"]} for slot in header["slots"]],
        "machine": machine,
        "next_grant": state.next_grant,
        "secrets": [
            state.secrets[name] | {"values": opened_values(header, key, state, name)}
            for name in sorted(state.secrets)
        ],
        "grants": [state.grants[number] for number in sorted(state.grants)],
    }


# Making one.


def now():
    return time.time_ns() // 1_000_000


def new_slots(header, key, passphrases, key_files, shares):
    """Puts the slots into the header; gives the recovery shares."""
    lines, number = [], itertools.count()
    for passphrase in passphrases:
        need(8 <= len(passphrase) <= 1024, "a passphrase has 8 to 1024 bytes")
        salt, lock = secrets.token_bytes(SALT), {"kind": "passphrase", "cost": COST}
        own = passphrase_key(passphrase, salt, COST)
        header["slots"].append(wrap(header, next(number), lock, salt, own, key))
    for content in key_files:
        need(32 <= len(content) <= VALUE_MAX, "a key file has 32 bytes to 64 KiB")
        own, lock = hashlib.sha256(content).digest(), {"kind": "static_file"}
        header["slots"].append(wrap(header, next(number), lock, secrets.token_bytes(SALT), own, key))
    if shares is not None:
        lock = {"kind": "shares", "threshold": shares[0], "count": shares[1], "set": secrets.token_hex(8)}
        own, slot = secrets.token_bytes(32), next(number)
        header["slots"].append(wrap(header, slot, lock, secrets.token_bytes(SALT), own, key))
        label = label_of(header, header["slots"][-1])
        lines = [share_text(label, x, y) for x, y in split(own, *shares)]
    header["next_slot"] = next(number)
    return lines


def filled(info):
    """A secret's metadata with what may be left out when it is made."""
    info = {"kind": "opaque"} | info
    if "versions" not in info:
        numbers = sorted(map(int, info["values"]))
        info["versions"] = [
            {"version": n, "state": "active" if n == numbers[-1] else "deprecated", "created_ms": now()}
            for n in numbers
        ]
    active = [version["version"] for version in info["versions"] if version["state"] == "active"]
    need(len(active) == 1, f"{info['name']}: one version is active")
    return {"current": active[0]} | info


def secret_changes(header, key, info):
    info = filled(info)
    values = info.pop("values")
    result = [({"op": "secret", "secret": info}, b"")]
    for version in info["versions"]:
        if str(version["version"]) in values:
            value, salt = base64.b64decode(values[str(version["version"])], validate=True), secrets.token_bytes(SALT)
            need(1 <= len(value) <= VALUE_MAX, f"{info['name']}: a value has 1 byte to 64 KiB")
            bound_to, aad = value_bound(header, info, version)
            change = {"op": "value", "name": info["name"], "version": version["version"]}
            result.append((change, salt + seal(key, salt, bound_to, aad, value)))
    return result


def packed(all_changes):
    """The contents of frames, none longer than a frame can be."""
    contents = [b""]
    for change, value in all_changes:
        text = json.dumps(change, separators=(",", ":")).encode()
        part = framed(text, value)
        if len(contents[-1]) + len(part) > FRAME_MAX:
            contents.append(b"")
        contents[-1] += part
    return contents


def frame(header, key, link, epoch, content):
    salt, (info, aad) = secrets.token_bytes(SALT), frame_bound(header, epoch, link)
    sealed = seal(key, salt, info, aad, content)
    head = u32(len(sealed)) + u64(epoch)
    return head + u32(crc32c(head)) + salt + sealed


def make_vault(contents, passphrases, key_files, shares):
    """The bytes of a new vault, and its recovery shares."""
    machine = contents.get("machine") or {}
    seed = base64.b64decode(machine["seed"], validate=True) if "seed" in machine else secrets.token_bytes(32)
    key, public = secrets.token_bytes(32), public_of(seed)
    header = {"vault": secrets.token_hex(16), "key": 1, "epoch": 1, "frames": 0, "created_ms": now()}
    header |= {"machine": public.hex(), "next_slot": 0, "slots": []}
    lines = new_slots(header, key, passphrases, key_files, shares)
    salt, vault = secrets.token_bytes(SALT), unhex(header["vault"], 16)
    sealed = salt + seal(key, salt, [b"octant vault 1 machine", vault], [public], seed)
    grants = contents.get("grants", [])
    next_grant = max([contents.get("next_grant", 1), *(grant["id"] + 1 for grant in grants)])
    created = {"created_ms": machine.get("created_ms", header["created_ms"]), "facts": machine.get("facts", {})}
    all_changes = [({"op": "seen", "ledger": 0, "wall_ms": now(), "grants": next_grant}, b"")]
    all_changes.append(({"op": "machine", "public": public.hex()} | created, sealed))
    for info in contents["secrets"]:
        all_changes.extend(secret_changes(header, key, info))
    all_changes.extend(({"op": "grant", "grant": grant}, b"") for grant in grants)
    frames = packed(all_changes)
    header["frames"] = len(frames)
    check_slots(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    need(len(text) <= HEADER_MAX, "the header is too long")
    data = MAGIC + u32(len(text)) + text + header_mac(header, key, text)
    for content in frames:
        data += frame(header, key, data[-16:], header["epoch"], content)
    made = {"vault": header["vault"], "fingerprint": hashlib.sha256(public).hexdigest(), "shares": lines}
    return data, made


# The command line.


def read(path, most=FILE_MAX):
    with open(path, "rb") as file:
        data = file.read(most + 1)
    need(len(data) <= most, f"{path} has more than {most} bytes")
    return data


def shape(text):
    found = re.fullmatch("([0-9]{1,2})/([0-9]{1,2})", text)
    if not found or not 2 <= int(found[1]) <= int(found[2]) <= 16:
        raise argparse.ArgumentTypeError("K/N, such as 2/3: 2 to 16 shares, no more needed than there are")
    return int(found[1]), int(found[2])


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    opening, making = verbs.add_parser("open"), verbs.add_parser("make")
    opening.add_argument("file")
    way = opening.add_mutually_exclusive_group(required=True)
    for name in ("--passphrase", "--key-file", "--share-file"):
        way.add_argument(name, metavar="FILE")
    making.add_argument("file")
    making.add_argument("contents")
    for name in ("--passphrase", "--key-file"):
        making.add_argument(name, metavar="FILE", action="append", default=[])
    making.add_argument("--shares", type=shape, metavar="K/N")
    return parser.parse_args(argv)


def run_open(options):
    data = read(options.file)
    if options.passphrase:
        return open_vault(data, "passphrase", read(options.passphrase, 1024))
    if options.key_file:
        return open_vault(data, "static_file", read(options.key_file, VALUE_MAX))
    shares = [line for line in read(options.share_file, VALUE_MAX).decode().splitlines() if line.strip()]
    return open_vault(data, "shares", shares)


def run_make(options):
    contents = parsed(read(options.contents), "the contents")
    passphrases = [read(path, 1024) for path in options.passphrase]
    key_files = [read(path, VALUE_MAX) for path in options.key_file]
    data, made = make_vault(contents, passphrases, key_files, options.shares)
    descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return made


def main(argv=None):
    options = arguments(argv)
    try:
        result, code = (run_open if options.verb == "open" else run_make)(options), 0
    except (Wrong, OSError) as error:
        result, code = {"ok": False, "why": str(error)}, 1
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        # What is authentic, or was given to make a vault of, can have any form still.
        result, code = {"ok": False, "why": f"a member is missing, or is not what it has to be: {error!r}"}, 1
    print(json.dumps({"ok": True} | result))
    return code


if __name__ == "__main__":
    sys.exit(main())
