"""Runs as an agent that uses a secret of its own beside another, and then stands still. beside.py CA"""

import os
import ssl
import time
import urllib.request

TOKEN = os.environ["OCTANT_SECRET_PROD_OTHER"]
REQUEST = urllib.request.Request("https://api.example.org/echo/body", headers={"Authorization": "Bearer " + TOKEN})
with urllib.request.urlopen(REQUEST, timeout=30, context=ssl.create_default_context()) as answer:
    print("beside:", answer.status, answer.read().count(b"*" * 20))
print("stands still", flush=True)
time.sleep(600)
