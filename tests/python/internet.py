"""A small internet for tests: addresses, names, TLS and plain servers, all on this namespace's loopback.

internet.py DIR COMMAND...: serves, runs the command, ends with its code. DIR has NAME.crt and NAME.key of each TLS host.
Written to /DIR/heard: a line for each request and question that came in. Where DIR has NAME.dropbear there is an SSH server
with that key, and where it has NAME.postgres, which says where PostgreSQL's programs are, a database with NAME.password.
"""

import ctypes
import fcntl
import http.server
import os
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time

NAMES = {
    "api.example.org": "11.0.0.2",
    "slow.example.org": "11.0.0.3",
    "evil.example.net": "11.0.0.4",
    "inwards.example.org": "127.0.0.1",
    "meta.example.org": "169.254.169.254",
    "web.example.org": "11.0.0.5",
    "git.example.org": "11.0.0.6",
    "other.example.org": "11.0.0.7",
    "db.example.org": "11.0.0.8",
}
DNS = "11.0.0.53"
DIR = sys.argv[1]
HEARD = open(os.path.join(DIR, "heard"), "a", buffering=1)


def interfaces():
    """Brings loopback up and gives it every address (netdevice(7))."""
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    addresses = sorted(set(NAMES.values()) | {DNS, "127.0.0.1"})
    for number, address in enumerate(a for a in addresses if a.startswith("11.")):
        name = b"lo:%d" % number
        request = struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(control, 0x8916, request)  # SIOCSIFADDR
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: up, loopback, running


def dns():
    """Answers A questions (RFC 1035); everything else has no answer."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((DNS, 53))
    while True:
        packet, sender = server.recvfrom(2048)
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        name = ".".join(labels).lower()
        kind = struct.unpack(">H", packet[at + 1 : at + 3])[0]
        HEARD.write(f"dns {name} {kind}\n")
        question = packet[12 : at + 5]
        address = NAMES.get(name)
        answer = b""
        if address and kind == 1:
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + socket.inet_aton(address)
        code = 0 if address else 3
        head = packet[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 1 if answer else 0, 0, 0)
        server.sendto(head + question + answer, sender)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        HEARD.write(f"http {self.headers['Host']} {self.path} {self.headers.get('Authorization', '-')}\n")
        if self.path.startswith("/mirror"):
            self.mirror()
            return
        if self.path.startswith("/slow"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for _ in range(6000):
                    self.wfile.write(b"4\r\ndrip\r\n")
                    self.wfile.flush()
                    time.sleep(0.01)
            except OSError as error:
                HEARD.write(f"cut {self.headers['Host']} {error}\n")
            self.close_connection = True
            return
        body = f"hello from {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def mirror(self):
        """Gives back what it was sent, in a header and in pieces of the body."""
        said = self.headers.get("Authorization", "-")
        self.send_response(200)
        self.send_header("X-Mirror", said)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (said[:12], said[12:] + "\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece.encode()))
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        HEARD.write(f"post {self.headers['Host']} {self.path} {len(body)} {self.headers.get('Authorization', '-')}\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(name, port, tls):
    server = Server((NAMES[name], port), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(DIR, name + ".crt"), os.path.join(DIR, name + ".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def canary():
    """What listens on the machine itself, which nothing inside may reach."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 443))
    server.listen()
    while True:
        connection, _ = server.accept()
        HEARD.write("canary\n")
        connection.close()


def ssh():
    """Servers that log every key that they take or refuse; they end with this program (PR_SET_PDEATHSIG).

    Each sees a home of its own, whose authorized_keys is DIR's: nothing of the machine's is read or written.
    """
    for key in [name for name in os.listdir(DIR) if name.endswith(".dropbear")]:
        name = key.removesuffix(".dropbear")
        home = f"mount -t tmpfs -o mode=700 home ~root && mkdir -m 700 ~root/.ssh && ln -s '{DIR}/authorized_keys' ~root/.ssh/"
        serve = f"exec dropbear -F -E -s -m -p {NAMES[name]}:22 -r '{DIR}/{key}' -P '{DIR}/{name}.pid'"
        end_with_us = lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        log = open(os.path.join(DIR, name + ".log"), "w")
        command = ["unshare", "--mount", "sh", "-c", f"{home} && {serve}"]
        subprocess.Popen(command, preexec_fn=end_with_us, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def databases():
    """Servers of PostgreSQL that let `app` in by its password, over TLS; as nobody, since they are not for root."""
    nobody = 65534
    for file in [name for name in os.listdir(DIR) if name.endswith(".postgres")]:
        name = file.removesuffix(".postgres")
        at = os.path.join(DIR, name)
        programs = open(at + ".postgres").read()
        os.mkdir(at + ".data", 0o700)
        for mine in (".data", ".key", ".password"):
            os.chown(at + mine, nobody, nobody)
            os.chmod(at + mine, 0o700 if mine == ".data" else 0o600)
        log = open(at + ".log", "w")

        def lesser():
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
            ctypes.CDLL(None).prctl(1, signal.SIGINT)

        start = {"preexec_fn": lesser, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": "/"}
        made = [f"{programs}/initdb", "-N", "-D", at + ".data", "-U", "app", "-A", "scram-sha-256", "--pwfile", at + ".password"]
        subprocess.run(made, check=True, **start)
        with open(at + ".data/pg_hba.conf", "w") as rules:
            rules.write("hostssl all all 0.0.0.0/0 scram-sha-256\n")
        settings = {
            "listen_addresses": NAMES[name],
            "unix_socket_directories": "",
            "fsync": "off",
            "jit": "off",
            "ssl": "on",
            "ssl_cert_file": at + ".crt",
            "ssl_key_file": at + ".key",
        }
        options = [word for setting, value in settings.items() for word in ("-c", f"{setting}={value}")]
        subprocess.Popen([f"{programs}/postgres", "-D", at + ".data", *options], **start)
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex((NAMES[name], 5432)) == 0:
                    break
            time.sleep(0.1)


interfaces()
ssh()
databases()
threading.Thread(target=dns, daemon=True).start()
threading.Thread(target=canary, daemon=True).start()
serve("api.example.org", 443, True)
serve("slow.example.org", 443, True)
serve("evil.example.net", 443, True)
serve("web.example.org", 80, False)
sys.exit(subprocess.call(sys.argv[2:]))
