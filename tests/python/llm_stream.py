"""A stream that somebody cuts. llm_stream.py MODEL: says `begun` once pieces come, how it ended, and whether another is whole."""

import sys
import time

import openai

client = openai.OpenAI(max_retries=0, timeout=60)


def stream(model):
    pieces = 0
    ended = "without an end"
    try:
        for chunk in client.chat.completions.create(model=model, stream=True, messages=[{"role": "user", "content": "?"}]):
            pieces += 1
            if pieces == 3:
                print("begun", flush=True)
            if chunk.choices and chunk.choices[0].finish_reason:
                ended = chunk.choices[0].finish_reason
    except Exception as error:
        ended = type(error).__name__
    return ended


print("cut:", stream(sys.argv[1]), flush=True)
for _ in range(100):
    try:
        again = client.chat.completions.create(model=sys.argv[2], messages=[{"role": "user", "content": "?"}])
        print("again:", again.choices[0].finish_reason, flush=True)
        break
    except openai.OpenAIError:
        time.sleep(0.1)
