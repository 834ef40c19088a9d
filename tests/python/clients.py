"""Runs as an agent and has every client say what it got, each as it is anywhere, told by nothing but the usual variables.
clients.py CA SITE

SITE has the packages requests and httpx, CA the authority of hosts that are not inspected. Printed is "CLIENT CASE: what it
got", or the error that its user would see.
"""

import json
import os
import subprocess
import sys

CA, SITE = sys.argv[1:]
sys.path.insert(0, SITE)
import httpx  # noqa: E402
import requests  # noqa: E402

API = "https://api.example.org"
TOKEN = {"Authorization": "Bearer " + os.environ["OCTANT_SECRET_PROD_API"]}
PROXIES = {"HTTPS_PROXY": "http://127.0.0.1:3128", "https_proxy": "http://127.0.0.1:3128"}
SOCKS = {"ALL_PROXY": "socks5h://127.0.0.1:1080"}
# For hosts that Octant does not vouch for.
OTHERS = {name: CA for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")}
CASES = [
    ("get", ("GET", API + "/hello", TOKEN, None), {}),
    ("post", ("POST", API + "/post", TOKEN, "what is posted"), {}),
    ("plain", ("GET", API + "/hello", {}, None), {}),
    ("other", ("GET", "https://slow.example.org/hello", {}, None), OTHERS),
    ("http", ("GET", "http://web.example.org/hello", {}, None), {}),
    ("refused", ("GET", "https://evil.example.net/", {}, None), {}),
    ("proxied", ("POST", API + "/post", TOKEN, "what is posted"), PROXIES),
    ("proxy-refused", ("GET", "https://evil.example.net/", {}, None), PROXIES),
]
FETCH = """const [method, url, headers, body] = JSON.parse(process.argv[1]);
fetch(url, {method, headers, body}).then(async answer => console.log("1.1", answer.status, (await answer.text()).trim()),
  error => console.log("error:", error.message, "-", error.cause && error.cause.message));"""


def said(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, **more)
    return done.returncode, " ".join(done.stdout.split())


def curl(version):
    def call(method, url, headers, body):
        more = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        more += ["--data", body] if body else []
        code, text = said(["curl", "-sS", version, "--max-time", "30", "-w", "\n%{http_version} %{http_code}", *more, url])
        *body, version_spoken, status = text.split(" ")
        return f"{version_spoken} {status} {' '.join(body)}" if code == 0 else f"error: {text}"

    return call


def by_requests(method, url, headers, body):
    answer = requests.request(method, url, headers=headers, data=body, timeout=30)
    return f"1.1 {answer.status_code} {answer.text.strip()}"


def by_httpx(http2):
    def call(method, url, headers, body):
        with httpx.Client(http2=http2, timeout=30) as client:
            answer = client.request(method, url, headers=headers, content=body)
        return f"{answer.http_version.removeprefix('HTTP/')} {answer.status_code} {answer.text.strip()}"

    return call


def node(*request):
    return said(["node", "-e", FETCH, json.dumps(request)])[1]


CLIENTS = [
    ("curl", curl("--http1.1")),
    ("curl2", curl("--http2")),
    ("requests", by_requests),
    ("httpx", by_httpx(False)),
    ("httpx2", by_httpx(True)),
    ("node", node),
]
for name, call in CLIENTS:
    for case, request, variables in CASES:
        if name == "node" and variables is PROXIES:
            continue  # Its fetch knows no such variable.
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            got = call(*request)
        except Exception as error:
            got = f"error: {type(error).__name__}: {error}"
        os.environ.clear()
        os.environ.update(before)
        print(f"{name} {case}: {got}", flush=True)
os.environ.update(SOCKS)
print("curl socks:", curl("--http1.1")("GET", API + "/hello", TOKEN, None))
print("curl socks-refused:", curl("--http1.1")("GET", "https://evil.example.net/", {}, None))
del os.environ["ALL_PROXY"]

HELPER = "credential.helper=!f() { echo username=git; echo password=$OCTANT_SECRET_PROD_CODE; }; f"


def git(case, *words, variables={}):
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", HELPER]
    print(f"git {case}:", *said(["git", *name, *words], env={**os.environ, **variables}), flush=True)


git("clone", "clone", "-q", "https://code.example.org/one.git", "one")
with open("one/more", "wb") as file:
    # More than one buffer of git's, and nothing that it could make smaller.
    file.write(os.urandom(1 << 21))
git("add", "-C", "one", "add", "more")
git("commit", "-C", "one", "commit", "-q", "-m", "another")
git("push", "-C", "one", "push", "-q", "origin", "HEAD")
git("proxied", "clone", "-q", "https://code.example.org/one.git", "two", variables=PROXIES)
git("same", "-C", "two", "log", "--format=%s")
git("refused", "clone", "-q", "https://evil.example.net/one.git", "three")
git("proxy-refused", "clone", "-q", "https://evil.example.net/one.git", "three", variables=PROXIES)
print("clients: done")
