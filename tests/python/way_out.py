"""Runs as an agent that may reach api.example.org, and tries everything else. way_out.py CA"""

import http.client
import socket
import ssl
import struct
import sys
import urllib.request

CONTEXT = ssl.create_default_context(cafile=sys.argv[1])
CONTEXT_OF_NOBODY = ssl._create_unverified_context()
failures = 0


def attempt(what, action):
    """Says how an attempt was denied, or that it was not."""
    global failures
    try:
        got = action()
    except (OSError, http.client.HTTPException) as error:
        print(f"denied: {what}: {type(error).__name__} {getattr(error, 'errno', '')}")
        return
    failures += 1
    print(f"GOT OUT: {what}: {got!r}")


def tcp(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        s.connect((host, port))
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        got = s.recv(100)
        if not got:
            raise OSError("closed")
        return got


def udp(host, port, packet=b"x"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.connect((host, port))
        s.send(packet)
        return s.recv(100)


def tls(host, name):
    with socket.create_connection((host, 443), timeout=10) as s:
        with CONTEXT_OF_NOBODY.wrap_socket(s, server_hostname=name) as t:
            return t.version()


def tls_by_proxy(target):
    connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=10)
    connection.set_tunnel(target, 443)
    connection.connect()
    with CONTEXT_OF_NOBODY.wrap_socket(connection.sock, server_hostname=target) as t:
        return t.version()


def socks(atyp, address):
    with socket.create_connection(("127.0.0.1", 1080), timeout=10) as s:
        s.sendall(b"\x05\x01\x00")
        s.recv(2)
        s.sendall(b"\x05\x01\x00" + atyp + address + struct.pack(">H", 443))
        code = s.recv(10)[1]
        if code:
            raise OSError(f"code {code}")
        return code


def sock(*args):
    socket.socket(*args).close()
    return "a socket"


# What is granted works as anywhere: by name, with verification, through the usual library.
for _ in range(3):
    with urllib.request.urlopen("https://api.example.org/hello", context=CONTEXT, timeout=30) as answer:
        print("granted:", answer.read().decode().strip())
with urllib.request.urlopen("http://web.example.org/plain", timeout=30) as answer:
    print("granted:", answer.read().decode().strip())
for proxy in ["http://127.0.0.1:3128"]:
    handler = urllib.request.ProxyHandler({"https": proxy, "http": proxy})
    opener = urllib.request.build_opener(handler, urllib.request.HTTPSHandler(context=CONTEXT))
    with opener.open("https://api.example.org/by-proxy", timeout=30) as answer:
        print("granted:", answer.read().decode().strip())
    with opener.open("http://web.example.org/by-proxy", timeout=30) as answer:
        print("granted:", answer.read().decode().strip())
# Its own loopback is its own.
with socket.create_server(("127.0.0.1", 8000)) as own:
    with socket.create_connection(("127.0.0.1", 8000)) as s:
        own.accept()[0].close()
print("granted: own loopback")

attempt("another name", lambda: urllib.request.urlopen("https://evil.example.net/", context=CONTEXT_OF_NOBODY, timeout=10))
attempt("a name that leads inwards", lambda: tls("inwards.example.org", "inwards.example.org"))
attempt("a name that leads to metadata", lambda: tls("meta.example.org", "meta.example.org"))
for literal in ["11.0.0.2", "11.0.0.4", "184549378", "0x0b000002", "013.0.0.2", "11.2", "127.0.0.1", "127.1", "0",
                "169.254.169.254", "10.0.0.1", "198.18.0.1", "198.19.255.254", "255.255.255.255", "224.0.0.1"]:
    attempt(f"the address {literal}", lambda: tcp(literal, 443))
for literal in ["::ffff:11.0.0.2", "::1", "fe80::1", "ff02::1", "2606:4700::1111", "fd4f:6374:616e:7400::9"]:
    attempt(f"the address {literal}", lambda: tcp(literal, 443, socket.AF_INET6))
attempt("another port", lambda: tcp("api.example.org", 80))
attempt("another protocol", lambda: tcp("api.example.org", 443))
attempt("another server's name", lambda: tls("api.example.org", "evil.example.net"))
attempt("no server's name", lambda: tls("api.example.org", None))
attempt("QUIC", lambda: udp(socket.gethostbyname("api.example.org"), 443))
attempt("another name server", lambda: udp("11.0.0.53", 53, b"\x00\x01\x01\x00\x00\x01" + bytes(6) + b"\x03api\x07example\x03org\x00\x00\x01\x00\x01"))
for target in ["evil.example.net", "11.0.0.4", "api.example.org.evil.example.net", "inwards.example.org"]:
    attempt(f"the proxy to {target}", lambda: tls_by_proxy(target))
attempt("SOCKS to another name", lambda: socks(b"\x03", bytes([16]) + b"evil.example.net"))
attempt("SOCKS to an address", lambda: socks(b"\x01", bytes([11, 0, 0, 4])))
for what, args in {
    "raw": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "ping": (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    "packet": (17, socket.SOCK_RAW, 0),
    "netlink": (16, socket.SOCK_RAW, 0),
    "vsock": (40, socket.SOCK_STREAM, 0),
    "MPTCP": (socket.AF_INET, socket.SOCK_STREAM, 262),
    "SCTP": (socket.AF_INET, socket.SOCK_STREAM, 132),
}.items():
    attempt(f"a socket: {what}", lambda: sock(*args))
found = 0
for n in range(0, 131072, 257):
    try:
        with socket.create_connection((f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}", 443), timeout=5) as s:
            s.sendall(b"\x16\x03\x01")
            found += len(s.recv(1))
    except OSError:
        pass
print(f"addresses that answered although nobody asked for their names: {found}")
print("way out: all denied" if failures == 0 and found == 0 else f"way out: {failures} GOT OUT")
