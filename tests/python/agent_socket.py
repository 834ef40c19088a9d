"""Runs as an agent that asks for everything by its socket, over MCP. agent_socket.py CA"""

import http.client
import json
import socket
import ssl
import sys
import time

CONTEXT = ssl.create_default_context(cafile=sys.argv[1])
SOCKET = socket.socket(socket.AF_UNIX)
SOCKET.connect("/run/octant/agent.sock")
LINES = SOCKET.makefile("r")
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def ask(method, **params):
    """One request of the revision 2026-07-28, which needs no handshake."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    SOCKET.sendall(json.dumps(request).encode() + b"\n")
    return json.loads(LINES.readline())["result"]


def call(tool, **arguments):
    """What a tool answers, or the code of its refusal."""
    result = ask("tools/call", name=tool, arguments=arguments)
    return result["_meta"]["octant/error"] if result["isError"] else result["structuredContent"]


def left():
    """What is left of the budget for bytes, reserved or not, and what was used of it."""
    rows = {row["budget"]: row for row in call("budget")["budgets"]}
    return rows["network.bytes"]


def get(path):
    connection = http.client.HTTPSConnection("slow.example.org", timeout=20, context=CONTEXT)
    connection.request("GET", path)
    return connection.getresponse()


HOST = "tls://slow.example.org:443"
WISH = {"host": HOST, "ttl_ms": 120000, "reason": "the list of prices"}

print("tools:", " ".join(tool["name"] for tool in ask("tools/list")["tools"]))
print("noted:", call("note", text="asking by the socket")["seq"] > 0)
print("preview:", call("preview", url="https://slow.example.org/")["allowed"])
print("elsewhere:", call("borrow", **{**WISH, "host": "tls://evil.example.net:443"})["code"])
asked = call("borrow", **WISH)
print("asked:", asked["code"], asked["data"]["approval"], flush=True)
print("answered:", call("approval", id=asked["data"]["approval"], wait_ms=60000)["state"])
print("lent:", call("borrow", **WISH)["host"])
print("preview:", call("preview", url="https://slow.example.org/")["allowed"])
print("granted:", get("/prices").read().decode().strip())
print("given:", left()["given"], flush=True)
answer = get("/slow")
try:
    while answer.read(4):
        pass
    print("over: ended")
except (OSError, http.client.HTTPException) as error:
    print("over:", type(error).__name__)
row = left()
# What the gate has not said yet is reserved.
print("spent:", row["used"] + row["reserved"], "left:", row["left"], flush=True)
try:
    get("/more")
    print("more: GOT OUT")
except (OSError, http.client.HTTPException):
    print("more: denied")
time.sleep(600)
