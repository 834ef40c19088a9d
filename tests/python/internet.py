"""A small internet for tests: addresses, names, TLS and plain servers, all on this namespace's loopback.

internet.py DIR COMMAND...: serves, runs the command, ends with its code. DIR has NAME.crt and NAME.key of each TLS host.
Written to /DIR/heard: a line for each request and question that came in. Where DIR has NAME.dropbear there is an SSH server
with that key, and where it has NAME.postgres, which says where PostgreSQL's programs are, a database with NAME.password.
Where it has a directory repositories there is git over HTTPS. api.example.org speaks HTTP/2 to who offers it, which needs the
package h2.
"""

import base64
import ctypes
import fcntl
import gzip
import http.server
import json
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
import urllib.parse

NAMES = {
    "api.example.org": "11.0.0.2",
    "slow.example.org": "11.0.0.3",
    "evil.example.net": "11.0.0.4",
    "inwards.example.org": "127.0.0.1",
    "meta.example.org": "169.254.169.254",
    "web.example.org": "11.0.0.5",
    "git.example.org": "11.0.0.6",
    "other.example.org": "11.0.0.7",
    "code.example.org": "11.0.0.8",
    "db.example.org": "11.0.0.9",
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


def spelled(said):
    """One text in every form in which it is found again in an answer."""
    raw = said.encode()
    texts = [said, raw.hex(), raw.hex().upper(), urllib.parse.quote(said, safe=""), urllib.parse.quote(said, safe="").lower()]
    texts += ["".join(f"%{byte:02X}" for byte in raw), json.dumps(said), json.dumps({"x": said})]
    for before in range(3):
        texts += [base64.b64encode(b"x" * before + raw).decode(), base64.urlsafe_b64encode(b"x" * before + raw).decode()]
    return texts


class Answer:
    """What a host says to a request, whatever version of HTTP it is said in."""

    def __init__(self, code, *pieces, headers=(), trailers=(), reason=None):
        self.code, self.pieces, self.reason = code, [piece.encode() if isinstance(piece, str) else piece for piece in pieces], reason
        self.headers, self.trailers = list(headers), list(trailers)


def echo(way, said):
    """Gives back what it was sent in one of the ways that there are."""
    quoted = urllib.parse.quote(said, safe="")
    if way == "headers":
        named = [("X-Echo", said), ("Set-Cookie", f"key={said}; Path=/"), ("ETag", f'"{said}"'), ("WWW-Authenticate", f"Bearer realm={said}")]
        return Answer(200, "headers\n", headers=named)
    if way == "trailers":
        return Answer(200, "trailers\n", headers=[("Trailer", "X-Echo")], trailers=[("x-echo", said)])
    if way == "error":
        return Answer(500, f"no such key: {said}\n", reason=f"no such key: {said}")
    if way == "redirect":
        return Answer(302, f'<a href="/hello?key={quoted}">{said}</a>\n', headers=[("Location", f"/hello?key={quoted}")])
    if way == "compressed":
        return Answer(200, gzip.compress(said.encode()), headers=[("Content-Encoding", "gzip")])
    if way == "cut":
        return Answer(200, *(said[at : at + 5] for at in range(0, len(said), 5)), "\n")
    return Answer(200, "\n".join(spelled(said)) + "\n")


def git(method, path, headers, body):
    """The repositories of DIR/repositories, to who says the password of DIR/password (git-http-backend(1))."""
    with open(os.path.join(DIR, "password"), "rb") as file:
        wanted = b"Basic " + base64.b64encode(b"git:" + file.read())
    if headers.get("authorization", "").encode() != wanted:
        return Answer(401, "who are you?\n", headers=[("WWW-Authenticate", 'Basic realm="repositories"')])
    path, _, query = path.partition("?")
    environment = {
        "PATH": os.environ["PATH"], "GIT_HTTP_EXPORT_ALL": "1", "GIT_PROJECT_ROOT": os.path.join(DIR, "repositories"),
        "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "REMOTE_USER": "git", "HOME": DIR,
        "CONTENT_TYPE": headers.get("content-type", ""), "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "HTTP_GIT_PROTOCOL": headers.get("git-protocol", ""), "CONTENT_LENGTH": str(len(body)),
    }
    done = subprocess.run(["git", "http-backend"], env=environment, input=body, stdout=subprocess.PIPE, check=True)
    head, _, said = done.stdout.partition(b"\r\n\r\n")
    named = [tuple(line.split(": ", 1)) for line in head.decode().splitlines()]
    code = next((int(value.split()[0]) for name, value in named if name == "Status"), 200)
    return Answer(code, said, headers=[(name, value) for name, value in named if name != "Status"])


def answer(method, host, path, headers, body):
    """What a host says; names of headers are in lower case."""
    said = headers.get("authorization", "-")
    if host == "code.example.org":
        HEARD.write(f"git {method} {path}\n")
        return git(method, path, headers, body)
    if method == "POST":
        HEARD.write(f"post {host} {path} {len(body)} {said}\n")
        return Answer(200, body)
    HEARD.write(f"http {host} {path} {said}\n")
    if path.startswith("/echo/"):
        return echo(path.removeprefix("/echo/"), said)
    if path.startswith("/mirror"):
        return Answer(200, said[:12], said[12:] + "\n", headers=[("X-Mirror", said)])
    return Answer(200, f"hello from {host}\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        spoken = getattr(self.connection, "selected_alpn_protocol", lambda: None)()
        if spoken == "h2":
            http2(self.connection)
        else:
            super().handle()

    def do_GET(self):
        if self.path.startswith("/still"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n.")
            time.sleep(600)
        if not self.path.startswith("/slow"):
            self.reply(b"")
            return
        HEARD.write(f"http {self.headers['Host']} {self.path} {self.headers.get('Authorization', '-')}\n")
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

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while count := int(self.rfile.readline(), 16):
                body += self.rfile.read(count)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(body)

    def reply(self, body):
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = answer(self.command, self.headers["Host"], self.path, headers, body)
        self.send_response(said.code, said.reason)
        for name, value in said.headers:
            self.send_header(name, value)
        whole = len(said.pieces) == 1 and not said.trailers
        self.send_header(*(("Content-Length", str(len(said.pieces[0]))) if whole else ("Transfer-Encoding", "chunked")))
        self.end_headers()
        if whole:
            self.wfile.write(said.pieces[0])
            return
        for piece in said.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.05)
        trailers = "".join(f"{name}: {value}\r\n" for name, value in said.trailers)
        self.wfile.write(b"0\r\n" + trailers.encode() + b"\r\n")

    def log_message(self, *_):
        pass


def http2(connection):
    """Serves a connection of HTTP/2, one request after another (RFC 9113). An answer to /still has no end, in either version."""
    import h2.config
    import h2.connection
    import h2.events

    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    state.initiate_connection()
    connection.sendall(state.data_to_send())
    streams = {}
    while data := connection.recv(65536):
        for event in state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                streams[event.stream_id] = (dict(event.headers), bytearray())
            elif isinstance(event, h2.events.DataReceived):
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                streams[event.stream_id][1].extend(event.data)
            elif isinstance(event, h2.events.StreamEnded):
                headers, body = streams.pop(event.stream_id)
                said = answer(headers[":method"], headers[":authority"], headers[":path"], headers, bytes(body))
                named = [(name.lower(), value) for name, value in said.headers if name != "Trailer"]
                state.send_headers(event.stream_id, [(":status", str(said.code)), ("x-spoken", "h2"), *named])
                for piece in said.pieces:
                    state.send_data(event.stream_id, piece)
                    connection.sendall(state.data_to_send())
                if headers[":path"].startswith("/still"):
                    continue
                if said.trailers:
                    state.send_headers(event.stream_id, said.trailers, end_stream=True)
                else:
                    state.end_stream(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                return
        connection.sendall(state.data_to_send())


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(name, port, tls):
    server = Server((NAMES[name], port), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if name == "api.example.org":
            context.set_alpn_protocols(["h2", "http/1.1"])
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
        # BIN is USR/lib/postgresql/VERSION/bin. They see USR in DIR: nobody may not enter every checkout.
        usr, version = open(at + ".postgres").read().rsplit("/lib/postgresql/", 1)
        os.mkdir(at + ".usr")
        os.mkdir(at + ".data", 0o700)
        for mine in (".data", ".key", ".password"):
            os.chown(at + mine, nobody, nobody)
            os.chmod(at + mine, 0o700 if mine == ".data" else 0o600)
        lesser = "exec setpriv --reuid 65534 --regid 65534 --clear-groups --pdeathsig INT"
        begin = f"cd / && mount --bind '{usr}' '{at}.usr' && {lesser} '{at}.usr/lib/postgresql/{version}'/\"$@\""
        begin = ["unshare", "--mount", "sh", "-c", begin, "sh"]
        log = open(at + ".log", "w")
        start = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        made = ["initdb", "-N", "-D", at + ".data", "-U", "app", "-A", "scram-sha-256", "--pwfile", at + ".password"]
        subprocess.run(begin + made, check=True, **start)
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
        subprocess.Popen([*begin, "postgres", "-D", at + ".data", *options], **start)
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
serve("code.example.org", 443, True)
serve("web.example.org", 80, False)
sys.exit(subprocess.call(sys.argv[2:]))
