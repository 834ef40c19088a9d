"""Runs under `octant run` with a manifest that names api.example.org and web.example.org. out.py [WORD]

With the word `waits` it waits to be killed, with `cut` for a file `go`, after which it tries again.
"""

import os
import ssl
import sys
import time
import urllib.request

word = sys.argv[1] if len(sys.argv) > 1 else "alone"
URLS = ("https://api.example.org/hello", "http://web.example.org/hello", "https://evil.example.net/", "http://11.0.0.5/")


def reach(word):
    for url in URLS:
        try:
            context = ssl.create_default_context(cafile="ca.pem")
            with urllib.request.urlopen(url, timeout=30, context=context) as answer:
                print(f"{word} {url}: {answer.read().decode().strip()}")
        except OSError as error:
            print(f"{word} {url}: denied: {error}")


reach(word)
if word in ("waits", "cut"):
    print("waits", flush=True)
    while word == "waits" or not os.path.exists("go"):
        time.sleep(0.1)
    reach("after")
