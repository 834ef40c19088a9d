"""Runs as an agent that uses a secret in earnest, with two clients, and then stands still to be searched. hunted.py CA MARK

MARK goes wherever a careless system would leave the secret too, so that who searches can show that it finds.
"""

import base64
import gc
import http.client
import os
import ssl
import subprocess
import sys
import time
import urllib.parse

API = "https://api.example.org"
TOKEN = os.environ["OCTANT_SECRET_PROD_API"]
MARK = sys.argv[2]
WAYS = ["headers", "body", "trailers", "error", "redirect", "compressed", "cut"]
HEADERS = {"Authorization": "Bearer " + TOKEN, "X-Mark": MARK}
KEPT = [base64.b64encode(MARK.encode())]


def python(way):
    """Gives the code, and keeps all that came."""
    connection = http.client.HTTPSConnection("api.example.org", timeout=30, context=ssl.create_default_context())
    connection.request("GET", "/echo/" + way, headers=HEADERS)
    answer = connection.getresponse()
    KEPT.extend([answer, answer.reason, repr(answer.getheaders()), answer.read(), connection])
    return answer.status, sum(part.count("*" * 20) for part in (KEPT[-3], KEPT[-2].decode()))


def curl(versions):
    """One process for all of it, which is left waiting for the end of an answer that has none."""
    command = ["curl", "-sS", versions]
    for number, way in enumerate([*WAYS, "still"]):
        command += ["--next"] if number else []
        command += ["-sS", versions, *(word for name, value in HEADERS.items() for word in ("-H", f"{name}: {value}"))]
        url = f"{API}/still" if way == "still" else f"{API}/echo/{way}"
        command += ["-N", "-D", f"head{versions}-{way}", "-o", f"body{versions}-{way}", url]
    process = subprocess.Popen(command, env={**os.environ, "MARK": MARK}, stderr=subprocess.PIPE)
    while not (os.path.exists(f"body{versions}-still") and os.path.getsize(f"body{versions}-still")):
        if process.poll() is not None:
            raise SystemExit(process.stderr.read())
        time.sleep(0.1)
    return process


for way in WAYS:
    print("python:", way, *python(way))
clients = [curl("--http1.1"), curl("--http2")]
for versions in ("--http1.1", "--http2"):
    for way in WAYS:
        with open(f"head{versions}-{way}") as head:
            print(f"curl {versions}:", way, head.readline().strip())
for place in ("/workspace/mark", "/tmp/mark"):
    with open(place, "w") as file:
        file.write(MARK.encode().hex())
subprocess.run(["/octant", "note", "a mark: " + urllib.parse.quote(MARK, safe="")], check=True, stdout=subprocess.DEVNULL)
print("marked:", MARK[::-1])
gc.collect()
print("stands still:", clients[0].pid, flush=True)
time.sleep(600)
