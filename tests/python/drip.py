"""Runs as an agent to which a host is lent and taken back. drip.py CA"""

import http.client
import ssl
import sys
import time

CONTEXT = ssl.create_default_context(cafile=sys.argv[1])


def download(begun):
    """Reads from the slow host until it is cut; whether it began at all."""
    connection = http.client.HTTPSConnection("slow.example.org", timeout=20, context=CONTEXT)
    try:
        connection.request("GET", "/slow")
        answer = connection.getresponse()
        print(begun, answer.read(4))
        while answer.read(4):
            pass
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return "ended"


def until_begun(begun):
    """Tries until the host is lent, then downloads until it is cut."""
    said = False
    while True:
        try:
            connection = http.client.HTTPSConnection("slow.example.org", timeout=20, context=CONTEXT)
            connection.connect()
            connection.close()
            return download(begun)
        except OSError:
            if not said:
                print("not lent", flush=True)
                said = True
            time.sleep(0.1)


print("cut 1", until_begun("drips"))
print("cut 2", until_begun("drips again"))
while True:
    try:
        connection = http.client.HTTPSConnection("api.example.org", timeout=20, context=CONTEXT)
        connection.request("GET", "/again")
        print("granted after the restart:", connection.getresponse().read().decode().strip())
        break
    except OSError:
        time.sleep(0.1)
time.sleep(600)
