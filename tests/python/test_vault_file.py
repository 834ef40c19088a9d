"""Tries vault_file.py with the vaults in tests/corpus/vault, which Octant's code wrote, with its own, and altered ones.

    python3 -m unittest discover -s tests/python
"""

import base64
import contextlib
import io
import itertools
import json
import pathlib
import tempfile
import unittest

import vault_file

CORPUS = pathlib.Path(__file__).parent.parent / "corpus" / "vault"
THREE = CORPUS / "ok-three-ways"
KEY_FILE = ["--key-file", str(CORPUS / "three-ways.key")]


def run(*words):
    """The exit code and the printed result."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = vault_file.main(list(map(str, words)))
    text = out.getvalue()
    assert text.count("\n") == 1, text
    return code, json.loads(text)


def text64(text):
    return base64.b64encode(text.encode()).decode()


class Corpus(unittest.TestCase):
    def test_a_vault_opens_in_three_ways_to_the_same(self):
        results = []
        for slot, (way, ending) in enumerate(
            (("--passphrase", "passphrase"), ("--key-file", "key"), ("--share-file", "shares"))
        ):
            code, result = run("open", THREE, way, CORPUS / f"three-ways.{ending}")
            self.assertEqual((code, result["ok"], result.pop("slot")), (0, True, slot), result)
            results.append(result)
        self.assertTrue(results[0] == results[1] == results[2])
        result = results[0]
        self.assertEqual((result["epoch"], result["torn"], result["next_grant"]), (8, 0, 8))
        found = {secret["name"]: secret for secret in result["secrets"]}
        self.assertEqual(sorted(found), ["a/binary", "a/long", "a/pair", "db/password", "oauth"])
        self.assertEqual(found["a/binary"]["values"], {"1": base64.b64encode(b"\x00\xff\n\r").decode()})
        self.assertEqual(found["db/password"]["values"], {"2": text64("second"), "3": text64("dritte \u00fc")})
        self.assertEqual(found["db/password"]["username"], 'm\u00fcller "x"')
        self.assertEqual([grant["id"] for grant in result["grants"]], [3, 7])
        seed = base64.b64decode(found["a/pair"]["values"]["1"])
        self.assertEqual(vault_file.public_of(seed).hex(), found["a/pair"]["versions"][0]["public_key"])

    def test_what_does_not_open_says_why(self):
        for words, why in (
            (["--key-file", CORPUS / "three-ways.passphrase"], "slot 1 does not open with that"),
            (["--passphrase", CORPUS / "three-ways.key"], "slot 0 does not open with that"),
            (["--share-file", CORPUS / "three-ways.key"], "it is no share of a vault"),
            (["--key-file", CORPUS / "nothing"], "No such file"),
        ):
            code, result = run("open", THREE, *words)
            self.assertEqual((code, result["ok"]), (1, False))
            self.assertIn(why, result["why"])

    def test_no_other_file_there_opens(self):
        files = [path for path in sorted(CORPUS.iterdir()) if path != THREE]
        self.assertGreaterEqual(len(files), 40)
        for path in files:
            with self.subTest(path.name):
                self.assertEqual(run("open", path, *KEY_FILE)[0], 1)

    def test_a_file_under_a_known_data_key_is_read_or_refused_as_its_name_says(self):
        """Those that are no vault of form 1 at all, or are made by the replay, are for Rust alone."""
        for path in sorted(CORPUS.iterdir()):
            data = path.read_bytes()
            if not data.startswith(vault_file.MAGIC) or path == THREE:
                continue
            with self.subTest(path.name):
                try:
                    header, text, kept, at = vault_file.read_header(data)
                    key = bytes([0xD7]) * 32
                    vault_file.need(vault_file.header_mac(header, key, text) == kept, "its header was changed")
                    contents, _, _ = vault_file.read_frames(data, at, header, key, kept[-16:])
                    vault_file.state_of(contents)
                    read = True
                except vault_file.Wrong:
                    read = False
                self.assertEqual(read, path.name.startswith("ok-"))


class Altered(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def open(self, data, *way):
        path = self.folder / "vault"
        path.write_bytes(data)
        return run("open", path, *(way or KEY_FILE))

    def test_every_flipped_byte_is_found(self):
        data = bytearray(THREE.read_bytes())
        for at in itertools.chain(range(0, 2600, 5), range(2600, len(data), 41), [len(data) - 1]):
            for mask in (1, 0x80):
                data[at] ^= mask
                code, result = self.open(data)
                self.assertEqual((code, result["ok"]), (1, False), (at, mask))
                data[at] ^= mask
        self.assertEqual(self.open(data)[0], 0)

    def test_every_length_is_an_error_or_an_earlier_state(self):
        data = THREE.read_bytes()
        whole = self.open(data)[1]
        seen = set()
        for length in range(0, len(data), 37):
            code, result = self.open(data[:length])
            if code == 0:
                self.assertLess(result["epoch"], whole["epoch"])
                self.assertTrue(all(secret in whole["secrets"] for secret in result["secrets"]))
                seen.add(result["epoch"])
        self.assertEqual(seen, set(range(1, 8)))
        code, result = self.open(data + bytes(100))
        self.assertEqual((code, result["torn"], result["secrets"]), (0, 100, whole["secrets"]))
        self.assertEqual(self.open(data + bytes(100) + b"\x01")[0], 1)

    def test_shares_have_to_be_enough_and_of_this_set(self):
        lines = (CORPUS / "three-ways.shares").read_text().splitlines()
        path, groups = self.folder / "shares", lines[1].split("-")
        groups[5], groups[6] = groups[6], groups[5]

        def by(*shares):
            path.write_text("\n".join(shares))
            return run("open", THREE, "--share-file", path)

        for pair in itertools.permutations(lines, 2):
            self.assertEqual(by(*pair)[0], 0)
        self.assertEqual(by(lines[1].upper().replace("-", "  "), lines[2])[0], 0)
        for shares, why in (
            (lines[:1], "1 shares are there"),
            ((lines[0], lines[0]), "1 shares are there"),
            ((lines[0], lines[1][:-1] + "8"), "108 letters"),
            ((lines[0], "-".join(groups)), "checksum"),
        ):
            code, result = by(*shares)
            self.assertEqual(code, 1)
            self.assertIn(why, result["why"])

    def test_garbage_is_an_answer_and_no_traceback(self):
        magic = vault_file.MAGIC
        empty = magic + b"\0\0\0\2{}" + bytes(32)
        for data in (b"", magic, magic + b"\xff" * 40, magic + bytes(60), empty, b"x" * 9999):
            self.assertEqual(self.open(data)[0], 1)
        for text in (b"null", b"[" * 5000, b'{"slots":1,"slots":1}', b"\xff"):
            self.assertEqual(self.open(magic + len(text).to_bytes(4, "big") + text + bytes(32))[0], 1)


class Made(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def make(self, contents, *words, name="vault"):
        path = self.folder / "contents"
        path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
        return run("make", self.folder / name, path, *words)

    def test_what_was_opened_is_made_again(self):
        before = run("open", THREE, *KEY_FILE)[1]
        code, made = self.make(before, *KEY_FILE, "--shares", "3/5")
        self.assertEqual((code, len(made["shares"])), (0, 5), made)
        self.assertNotEqual(made["vault"], before["vault"])
        after = run("open", self.folder / "vault", *KEY_FILE)[1]
        for name in ("secrets", "grants", "machine", "next_grant"):
            self.assertEqual(after[name], before[name])
        (self.folder / "shares").write_text("\n".join(made["shares"][1:4]))
        self.assertEqual(run("open", self.folder / "vault", "--share-file", self.folder / "shares")[0], 0)

    def test_a_name_and_values_are_enough(self):
        values = {"1": text64("first"), "3": text64("third")}
        self.assertEqual(self.make({"secrets": [{"name": "a", "values": values}]}, *KEY_FILE)[0], 0)
        secret = run("open", self.folder / "vault", *KEY_FILE)[1]["secrets"][0]
        self.assertEqual((secret["kind"], secret["current"], secret["values"]), ("opaque", 3, values))

    def test_more_than_a_frame_holds_stands_in_several(self):
        value = base64.b64encode(bytes(60_000)).decode()
        contents = {"secrets": [{"name": f"n{number}", "values": {"1": value}} for number in range(75)]}
        self.assertEqual(self.make(contents, *KEY_FILE)[0], 0)
        data = (self.folder / "vault").read_bytes()
        self.assertEqual(vault_file.read_header(data)[0]["frames"], 2)
        self.assertEqual(len(run("open", self.folder / "vault", *KEY_FILE)[1]["secrets"]), 75)

    def test_what_cannot_be_made_is_an_answer_and_no_traceback(self):
        good = {"secrets": []}
        long = base64.b64encode(bytes(65_537)).decode()
        (self.folder / "short").write_bytes(b"short")
        for contents, words in (
            (good, []),
            (good, ["--passphrase", self.folder / "short"]),
            (good, ["--key-file", self.folder / "short"]),
            ({}, KEY_FILE),
            ("null", KEY_FILE),
            ("{", KEY_FILE),
            ({"secrets": [{"name": "a"}]}, KEY_FILE),
            ({"secrets": [{"name": "a", "values": {}}]}, KEY_FILE),
            ({"secrets": [{"name": "a", "values": {"1": "?"}}]}, KEY_FILE),
            ({"secrets": [{"name": "a", "values": {"1": ""}}]}, KEY_FILE),
            ({"secrets": [{"name": "a", "values": {"1": long}}]}, KEY_FILE),
            ({"secrets": [], "machine": {"seed": "AA=="}}, KEY_FILE),
        ):
            code, result = self.make(contents, *words)
            self.assertEqual((code, result["ok"]), (1, False), (contents, result))
            self.assertFalse((self.folder / "vault").exists())
        self.assertEqual(self.make(good, *KEY_FILE)[0], 0)
        self.assertEqual(self.make(good, *KEY_FILE)[0], 1, "what is there is not overwritten")


class Parts(unittest.TestCase):
    def test_crc32c_is_rfc_3720s(self):
        self.assertEqual(vault_file.crc32c(bytes(32)), 0x8A91_36AA)
        self.assertEqual(vault_file.crc32c(b"123456789"), 0xE306_9283)

    def test_any_shares_give_the_secret(self):
        secret = bytes(range(32))
        points = vault_file.split(secret, 3, 5)
        for some in itertools.combinations(points, 3):
            self.assertEqual(vault_file.combine(some), secret)
        self.assertNotEqual(vault_file.combine(points[:2]), secret)
        self.assertEqual(vault_file.multiply(0x57, 0x83), 0xC1, "FIPS 197 section 4.2")


if __name__ == "__main__":
    unittest.main()
