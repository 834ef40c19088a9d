"""Callers that all ask at once until nothing is left. llm_crowd.py MODEL CALLERS

Each asks again and again and stops when it is told that the budget is used up; while what is left is reserved for others it
waits. Prints how many answers there were, and what the refusals said.
"""

import collections
import sys
import threading
import time

import openai

MODEL, CALLERS = sys.argv[1], int(sys.argv[2])
QUESTION = "What is it like? " * 12
answered = 0
ends = collections.Counter()
lock = threading.Lock()
client = openai.OpenAI(max_retries=0, timeout=120)


def ask():
    global answered
    for _ in range(1000):
        try:
            client.chat.completions.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": QUESTION}])
        except openai.APIStatusError as error:
            if error.status_code == 429 and "reserved" in error.message:
                time.sleep(0.05)
                continue
            with lock:
                ends[f"{error.status_code} {error.message}"] += 1
            return
        with lock:
            answered += 1


threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("answered:", answered)
for end, count in ends.most_common(5):
    print(f"end: {count} {end}")
