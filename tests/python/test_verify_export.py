"""Tries verify_export.py with the exports in tests/corpus/export, which Octant's code wrote, and altered ones.

    python3 -m unittest discover -s tests/python
"""

import base64
import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import verify_export

CORPUS = pathlib.Path(__file__).parent.parent / "corpus" / "export"
KNOWING = [
    "--key", str(CORPUS / "log.pub"),
    "--witness", str(CORPUS / "witness-1.pub"),
    "--witness", str(CORPUS / "witness-2.pub"),
]


def verify(path, *more):
    """The exit code and the printed result."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = verify_export.main([str(path), *more])
    text = out.getvalue()
    assert text.count("\n") == 1, text
    return code, json.loads(text)


class Corpus(unittest.TestCase):
    def test_what_octant_wrote_verifies(self):
        files = sorted(CORPUS.glob("ok-*"))
        self.assertGreaterEqual(len(files), 4)
        for path in files:
            with self.subTest(path.name):
                code, result = verify(path, *KNOWING)
                self.assertEqual(code, 0, result)
                self.assertTrue(result["ok"] and result["key_given"])
                self.assertEqual((result["size"], result["quorum"], len(result["cosigned"])), (12, 2, 2))
                self.assertEqual(verify(path)[0], 0, "and by itself")

    def test_the_complete_one_is_all_there(self):
        code, result = verify(CORPUS / "ok-complete", *KNOWING, "--checkpoint", str(CORPUS / "kept.checkpoint"))
        self.assertEqual((code, result["entries"], result["complete"]), (0, 12, True), result)
        self.assertEqual((result["payloads"], result["elsewhere"], result["seals"]), (1, 1, 1))

    def test_what_was_tampered_with_names_its_entry(self):
        files = sorted(CORPUS.glob("bad-*"))
        self.assertGreaterEqual(len(files), 20)
        for path in files:
            with self.subTest(path.name):
                code, result = verify(path, *KNOWING)
                self.assertEqual((code, result["ok"]), (1, False))
                self.assertEqual(result["first_bad_seq"] or 0, int(path.name.split("-")[1]), result)

    def test_a_log_that_was_rewritten_shows_only_from_outside(self):
        path = CORPUS / "foreign-rewritten"
        self.assertEqual(verify(path, *KNOWING)[0], 0)
        code, result = verify(path, *KNOWING, "--checkpoint", str(CORPUS / "kept.checkpoint"))
        self.assertEqual((code, result["first_bad_seq"]), (1, 1), result)


class Altered(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "export"

    def verify(self, lines, *more):
        self.path.write_bytes(b"\n".join(lines) + b"\n")
        return verify(self.path, *more)

    def test_every_flipped_bit_of_an_entry_is_found_there(self):
        for name in ("ok-complete", "ok-part", "ok-agent"):
            lines = (CORPUS / name).read_bytes().splitlines()
            for at in range(1, len(lines) - 1):
                row = json.loads(lines[at])
                raw = bytearray(base64.b64decode(row["entry"]))
                for place in range(0, len(raw), 7):
                    raw[place] ^= 1 << place % 8
                    changed = dict(row, entry=base64.b64encode(raw).decode())
                    raw[place] ^= 1 << place % 8
                    altered = [*lines[:at], json.dumps(changed).encode(), *lines[at + 1 :]]
                    code, result = self.verify(altered, *KNOWING)
                    self.assertEqual(code, 1, (name, at, place))
                    # Of a complete export the last entry has only the root above it.
                    last = name == "ok-complete" and at == len(lines) - 2
                    expected = (row["seq"], row["seq"] - 1, 1) if last else (row["seq"],)
                    self.assertIn(result["first_bad_seq"], expected, (name, at, place, result))

    def test_a_signature_by_nobody_is_refused(self):
        lines = (CORPUS / "ok-complete").read_bytes().splitlines()
        header = json.loads(lines[0])
        text, signatures = header["checkpoint"].rsplit("\n\n", 1)
        for number in range(3):
            rows = signatures.splitlines()
            start, name, blob = rows[number].split(" ")
            raw = bytearray(base64.b64decode(blob))
            raw[-1] ^= 1
            rows[number] = " ".join((start, name, base64.b64encode(raw).decode()))
            changed = dict(header, checkpoint=text + "\n\n" + "\n".join(rows) + "\n")
            code, result = self.verify([json.dumps(changed).encode(), *lines[1:]], *KNOWING)
            self.assertEqual(code, 1, rows)
            self.assertIn("signature" if number == 0 else "1 of 2 witnesses", result["why"])

    def test_an_older_export_is_cut_when_somebody_knows_more(self):
        # The file of another checkpoint: what is kept covers five entries.
        kept = verify_export.checkpoint_argument(CORPUS / "kept.checkpoint")[1]
        self.assertEqual(kept.size, 5)
        lines = (CORPUS / "ok-complete").read_bytes().splitlines()
        header = json.loads(lines[0])
        header.update(checkpoint=(CORPUS / "kept.checkpoint").read_text(), to=5, quorum=0)
        older = [json.dumps(header).encode(), *lines[1:6], b'{"end":5}']
        key = KNOWING[:2]
        self.assertEqual(self.verify(older, *key)[0], 0)
        newer = pathlib.Path(self.folder.name) / "newer"
        newer.write_text(json.loads(lines[0])["checkpoint"])
        code, result = self.verify(older, *key, "--checkpoint", str(newer))
        self.assertEqual((code, result["first_bad_seq"]), (1, 6), result)
        self.assertIn("cut:", result["why"])

    def test_garbage_is_an_answer_and_no_traceback(self):
        header = b'{"format":"octant-export-1"}'
        for line in (b"", b"{", b"[" * 5000, b"null", b"\xff", header, b"x" * (1 << 21)):
            code, result = self.verify([line])
            self.assertEqual((code, result["ok"], result["first_bad_seq"]), (1, False, None), result)


if __name__ == "__main__":
    unittest.main()
