# What the same construction costs in Python's cryptography: HKDF-SHA256 with a fresh salt, then AES-256-GCM.
# Prints the medians of sealing and opening in nanoseconds.
import os
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY, TEXT, INFO, AAD, ROUNDS = os.urandom(32), bytes(64), b"bench", b"a/path/of/some/length", 20000


def derived(salt):
    okm = HKDF(algorithm=SHA256(), length=44, salt=salt, info=INFO).derive(KEY)
    return AESGCM(okm[:32]), okm[32:]


def seal():
    salt = os.urandom(32)
    cipher, nonce = derived(salt)
    return salt + cipher.encrypt(nonce, TEXT, AAD)


def opened(sealed):
    cipher, nonce = derived(sealed[:32])
    return cipher.decrypt(nonce, sealed[32:], AAD)


def median(work):
    samples = []
    for _ in range(ROUNDS):
        before = time.perf_counter_ns()
        work()
        samples.append(time.perf_counter_ns() - before)
    return sorted(samples)[ROUNDS // 2]


SEALED = seal()
assert opened(SEALED) == TEXT
print(median(seal), median(lambda: opened(SEALED)))
