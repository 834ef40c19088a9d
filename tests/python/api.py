"""Runs as an agent that calls an API with a secret that it never sees, and looks for that secret. api.py CA TERCES

TERCES is the secret backwards, so that what looks for it does not find itself.
"""

import os
import socket
import sys
import urllib.error
import urllib.request

TOKEN = os.environ["OCTANT_SECRET_PROD_API"]


def call(url, header, value):
    """Gives the code and what came back."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={header: value}), timeout=20) as answer:
            return answer.status, answer.read().decode().strip(), answer.headers.get("X-Mirror", "-")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip(), "-"


def everything():
    """Every place of a workstation where a secret could lie."""
    yield "environment", repr(os.environ).encode()
    for name in ("environ", "cmdline", "mountinfo", "maps", "status"):
        with open(f"/proc/self/{name}", "rb") as file:
            yield f"/proc/self/{name}", file.read()
    for top in ("/etc", "/run", "/workspace", "/tmp", "/dev/shm"):
        for path, _, names in os.walk(top):
            for name in names:
                full = os.path.join(path, name)
                if os.path.isfile(full):
                    try:
                        with open(full, "rb") as file:
                            yield full, file.read()
                    except OSError:
                        pass


print("placeholder:", TOKEN)
print("hello:", call("https://api.example.org/hello", "Authorization", "Bearer " + TOKEN)[:2])
print("mirror:", call("https://api.example.org/mirror", "Authorization", "Bearer " + TOKEN))
print("misplaced:", call("https://api.example.org/", "X-Note", TOKEN)[0])
print("canary:", call("http://web.example.org/", "Authorization", "Bearer " + TOKEN)[0])
print("others:", call("https://api.example.org/", "X-Api-Key", "octs_" + "b" * 22)[0])
secret = sys.argv[2][::-1].encode()
places = list(everything())
print("found:", [name for name, bytes in places if secret in bytes])
print("looked:", any(name == "/etc/octant/ca.pem" for name, _ in places))
# The gate starts anew while this waits: what the workstation trusts is kept.
waiting = socket.create_connection(("web.example.org", 80))
print("waits for another gate")
try:
    waiting.recv(1)
except OSError:
    pass
print("after the restart:", call("https://api.example.org/hello", "Authorization", "Bearer " + TOKEN)[:2])
