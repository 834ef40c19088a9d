"""Runs under `octant run` with a manifest that names api.example.org and web.example.org. out.py [WORD]"""

import ssl
import sys
import time
import urllib.request

word = sys.argv[1] if len(sys.argv) > 1 else "alone"
for url in ("https://api.example.org/hello", "http://web.example.org/hello", "https://evil.example.net/", "http://11.0.0.5/"):
    try:
        context = ssl.create_default_context(cafile="ca.pem")
        with urllib.request.urlopen(url, timeout=30, context=context) as answer:
            print(f"{word} {url}: {answer.read().decode().strip()}")
    except OSError as error:
        print(f"{word} {url}: denied: {error}")
if word == "waits":
    print("waits", flush=True)
    time.sleep(300)
