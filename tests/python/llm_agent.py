"""An agent as anybody writes one: three published clients, and where they find their models is in the environment alone.

llm_agent.py MODEL PLAIN...: works on a task with MODEL and three tools until it answers without a call, then asks each PLAIN
model through the client that its name begins with. Prints what came of it, and stands still.
"""

import json
import os
import subprocess
import sys
import time

import anthropic
import ollama
import openai


def shell(command):
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def write_file(path, content):
    with open(path, "w") as file:
        file.write(content)
    return f"{len(content)} characters written"


def read_file(path):
    with open(path) as file:
        return file.read()


TEXT = {"type": "string"}
TOOLS = {
    "shell": (shell, {"command": TEXT}),
    "write_file": (write_file, {"path": TEXT, "content": TEXT}),
    "read_file": (read_file, {"path": TEXT}),
}


def offered(name, arguments):
    parameters = {"type": "object", "properties": arguments, "required": list(arguments), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def work(model, task):
    client = openai.OpenAI()
    messages = [{"role": "user", "content": task}]
    tools = [offered(name, arguments) for name, (_, arguments) in TOOLS.items()]
    for step in range(20):
        answer = client.chat.completions.create(model=model, messages=messages, tools=tools).choices[0].message
        if not answer.tool_calls:
            return answer.content
        messages.append(answer.model_dump(exclude_none=True))
        for call in answer.tool_calls:
            result = TOOLS[call.function.name][0](**json.loads(call.function.arguments))
            print(f"step {step + 1}: {call.function.name}", flush=True)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return "no answer after 20 steps"


def plain(model):
    """A question without tools, through the client of the model's provider."""
    messages = [{"role": "user", "content": "Hello?"}]
    if "anthropic" in model:
        answer = anthropic.Anthropic().messages.create(model=model, max_tokens=100, messages=messages)
        return answer.content[0].text
    if "ollama" in model:
        return ollama.chat(model=model, messages=messages).message.content
    return openai.OpenAI().responses.create(model=model, input="Hello?").output_text


print("models:", " ".join(sorted(model.id for model in openai.OpenAI().models.list())))
print("answer:", work(sys.argv[1], "What is six times seven, and what is its digest?"))
for model in sys.argv[2:]:
    print(f"{model}:", json.dumps(plain(model)))
try:
    openai.OpenAI(max_retries=0).responses.create(model="not/granted", input="Hello?")
    print("GOT OUT: not/granted")
except openai.APIStatusError as error:
    print("not granted:", error.status_code, error.message)
print("key:", os.environ["OPENAI_API_KEY"])
print("stands still", flush=True)
time.sleep(300)
