"""The clients of language models that Python programs use, unmodified, against whatever speaks their dialects.

llm_clients.py reads one JSON object: {"openai": URL, "anthropic": URL, "ollama": URL, "key": KEY, "cases": [{"client", "stream",
"model"}]}, from the file that is named or else from its input. A URL that is absent is the one in the environment, as for any
program. It prints one JSON object a line for each case: what the client gave to its caller, or what it raised.

The clients whose names begin with async- are the same ones as programs of asyncio use them: many of their cases are in flight
at once, and none may get a word of another's.
"""

import asyncio
import base64
import hashlib
import inspect
import itertools
import json
import sys

import anthropic
import ollama
import openai

IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CLOCK = {
    "type": "object",
    "properties": {"zone": {"type": "string"}},
    "required": ["zone"],
    "additionalProperties": False,
}
TOOLS = [("weather", "The weather of some days.", WEATHER), ("clock", "The time.", CLOCK)]
SHAPE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
QUESTION = "What is it like – 今日?"
# How many cases of asyncio are in flight at once.
AT_ONCE = 8


def gave(number, name, arguments):
    """What a tool gives back."""
    return f"{name} {number}: {arguments.get('city') or arguments.get('zone')}"


class Chat:
    """openai, chat completions."""

    make = openai.OpenAI

    def __init__(self, spec):
        self.client = self.make(
            base_url=spec.get("openai"), api_key=spec.get("key"), max_retries=0, timeout=spec.get("timeout", 60)
        )

    def asked(self, what):
        content = QUESTION
        if what == "image":
            url = {"url": "data:image/png;base64," + IMAGE_TEXT}
            content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": url}]
        asked = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]}
        if what == "tools":
            asked["tools"] = [
                {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}
                for name, about, schema in TOOLS
            ]
        if what == "shape":
            form = {"name": "degrees", "schema": SHAPE, "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": form}
        return asked

    def begun(self, model, asked):
        options = {"include_usage": True}
        return self.client.chat.completions.create(model=model, stream=True, stream_options=options, **asked)

    def piece(self, chunk, said):
        """Pieces go into `said` as they come, so that they are there when the stream breaks."""
        if chunk.usage:
            said["input"], said["output"] = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices:
            delta = choice.delta
            said["text"] += delta.content or ""
            said["refusal"] += delta.refusal or ""
            said["thought"] += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or []:
                if call.index == len(said["raw"]):
                    said["raw"].append([call.id, call.function.name, ""])
                said["raw"][call.index][2] += call.function.arguments or ""
            said["stop"] = choice.finish_reason or said["stop"]

    def streamed(self, model, asked, said):
        for chunk in self.begun(model, asked):
            self.piece(chunk, said)

    def whole(self, model, asked, said):
        self.take(self.client.chat.completions.create(model=model, **asked), said)

    def take(self, answer, said):
        choice = answer.choices[0]
        said["text"] = choice.message.content or ""
        said["refusal"] = choice.message.refusal or ""
        said["thought"] = getattr(choice.message, "reasoning_content", None) or ""
        said["raw"] = [[c.id, c.function.name, c.function.arguments] for c in choice.message.tool_calls or []]
        said["stop"] = choice.finish_reason
        said["input"], said["output"] = answer.usage.prompt_tokens, answer.usage.completion_tokens

    def results(self, asked, said, results):
        calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": text}}
            for id, name, text in said["raw"]
        ]
        more = [{"role": "assistant", "content": said["text"] or None, "tool_calls": calls}]
        more += [{"role": "tool", "tool_call_id": id, "content": text} for id, text in results]
        return {**asked, "messages": asked["messages"] + more}


class AsyncChat(Chat):
    make = openai.AsyncOpenAI

    async def streamed(self, model, asked, said):
        async for chunk in await self.begun(model, asked):
            self.piece(chunk, said)

    async def whole(self, model, asked, said):
        self.take(await self.client.chat.completions.create(model=model, **asked), said)


class Responses:
    """openai, responses."""

    chat = Chat

    def __init__(self, spec):
        self.client = self.chat(spec).client

    def asked(self, what):
        content = [{"type": "input_text", "text": QUESTION}]
        if what == "image":
            content.append({"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + IMAGE_TEXT})
        asked = {"instructions": "Be brief.", "input": [{"role": "user", "content": content}], "store": False}
        if what == "tools":
            asked["tools"] = [
                {"type": "function", "name": name, "description": about, "parameters": schema, "strict": True}
                for name, about, schema in TOOLS
            ]
        if what == "shape":
            asked["text"] = {"format": {"type": "json_schema", "name": "degrees", "schema": SHAPE, "strict": True}}
        return asked

    def take(self, answer, said):
        said["text"] = answer.output_text
        parts = [part for item in answer.output if item.type == "message" for part in item.content]
        said["refusal"] = "".join(part.refusal for part in parts if part.type == "refusal")
        thoughts = [part for item in answer.output if item.type == "reasoning" for part in item.summary]
        said["thought"] = "".join(part.text for part in thoughts)
        calls = [item for item in answer.output if item.type == "function_call"]
        said["raw"] = [[call.call_id, call.name, call.arguments] for call in calls]
        said["stop"] = answer.incomplete_details.reason if answer.incomplete_details else answer.status
        said["input"], said["output"] = answer.usage.input_tokens, answer.usage.output_tokens

    def piece(self, event, said, pieces, arguments):
        match event.type:
            case "response.output_text.delta":
                pieces["text"] += event.delta
                said["text"] = pieces["text"]
            case "response.refusal.delta":
                pieces["refusal"] += event.delta
            case "response.reasoning_summary_text.delta":
                pieces["thought"] += event.delta
            case "response.function_call_arguments.delta":
                arguments[event.output_index] = arguments.get(event.output_index, "") + event.delta
            case "response.completed" | "response.incomplete":
                self.take(event.response, said)
            case "response.failed":
                raise RuntimeError(f"response.failed: {event.response.error.message}")
            case "error":
                raise RuntimeError(f"error: {event.message}")

    def check(self, said, pieces, arguments):
        """What came in pieces is what the last event has."""
        if said["stop"] is None:
            return
        for name, text in pieces.items():
            assert said[name] == text, f"{name}: {said[name]!r} is not {text!r}"
        whole = [raw[2] for raw in said["raw"]]
        assert whole == [arguments[at] for at in sorted(arguments)], f"{whole} is not {arguments}"

    def streamed(self, model, asked, said):
        pieces, arguments = dict(text="", refusal="", thought=""), {}
        with self.client.responses.create(model=model, stream=True, **asked) as events:
            for event in events:
                self.piece(event, said, pieces, arguments)
        self.check(said, pieces, arguments)

    def whole(self, model, asked, said):
        self.take(self.client.responses.create(model=model, **asked), said)

    def results(self, asked, said, results):
        more = [
            {"type": "function_call", "call_id": id, "name": name, "arguments": text} for id, name, text in said["raw"]
        ]
        more += [{"type": "function_call_output", "call_id": id, "output": text} for id, text in results]
        return {**asked, "input": asked["input"] + more}


class AsyncResponses(Responses):
    chat = AsyncChat

    async def streamed(self, model, asked, said):
        pieces, arguments = dict(text="", refusal="", thought=""), {}
        async with await self.client.responses.create(model=model, stream=True, **asked) as events:
            async for event in events:
                self.piece(event, said, pieces, arguments)
        self.check(said, pieces, arguments)

    async def whole(self, model, asked, said):
        self.take(await self.client.responses.create(model=model, **asked), said)


class Anthropic:
    """anthropic, messages."""

    make = anthropic.Anthropic

    def __init__(self, spec):
        self.client = self.make(
            base_url=spec.get("anthropic"), api_key=spec.get("key"), max_retries=0, timeout=spec.get("timeout", 60)
        )

    def asked(self, what):
        content = [{"type": "text", "text": QUESTION}]
        if what == "image":
            source = {"type": "base64", "media_type": "image/png", "data": IMAGE_TEXT}
            content.append({"type": "image", "source": source})
        asked = {"system": "Be brief.", "max_tokens": 4096, "messages": [{"role": "user", "content": content}]}
        if what == "tools":
            asked["tools"] = [
                {"name": name, "description": about, "input_schema": schema} for name, about, schema in TOOLS
            ]
        if what == "think":
            asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if what == "shape":
            asked["output_config"] = {"format": {"type": "json_schema", "schema": SHAPE}}
        return asked

    def take(self, answer, said):
        said["blocks"] = [block.model_dump(exclude_none=True) for block in answer.content]
        said["text"] = "".join(block.text for block in answer.content if block.type == "text")
        said["thought"] = "".join(block.thinking for block in answer.content if block.type == "thinking")
        said["signature"] = "".join(block.signature for block in answer.content if block.type == "thinking")
        said["raw"] = [[b.id, b.name, json.dumps(b.input)] for b in answer.content if b.type == "tool_use"]
        said["stop"] = answer.stop_reason
        cached = answer.usage.cache_read_input_tokens or 0
        cached += answer.usage.cache_creation_input_tokens or 0
        said["input"], said["output"] = answer.usage.input_tokens + cached, answer.usage.output_tokens

    def streamed(self, model, asked, said):
        with self.client.messages.stream(model=model, **asked) as stream:
            for event in stream:
                if event.type == "text":
                    said["text"] += event.text
            self.take(stream.get_final_message(), said)

    def whole(self, model, asked, said):
        self.take(self.client.messages.create(model=model, **asked), said)

    def results(self, asked, said, results):
        blocks = [{"type": "tool_result", "tool_use_id": id, "content": text} for id, text in results]
        more = [{"role": "assistant", "content": said["blocks"]}, {"role": "user", "content": blocks}]
        return {**asked, "messages": asked["messages"] + more}


class AsyncAnthropic(Anthropic):
    make = anthropic.AsyncAnthropic

    async def streamed(self, model, asked, said):
        async with self.client.messages.stream(model=model, **asked) as stream:
            async for event in stream:
                if event.type == "text":
                    said["text"] += event.text
            self.take(await stream.get_final_message(), said)

    async def whole(self, model, asked, said):
        self.take(await self.client.messages.create(model=model, **asked), said)


class Ollama:
    """ollama, chat."""

    make = ollama.Client

    def __init__(self, spec):
        self.client = self.make(host=spec.get("ollama"), timeout=spec.get("timeout", 60))

    def asked(self, what):
        message = {"role": "user", "content": QUESTION}
        if what == "image":
            message["images"] = [IMAGE]
        asked = {"messages": [{"role": "system", "content": "Be brief."}, message]}
        if what == "tools":
            asked["tools"] = [
                {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}
                for name, about, schema in TOOLS
            ]
        if what == "shape":
            asked["format"] = SHAPE
        if what == "think":
            asked["think"] = True
        return asked

    def take(self, answer, said):
        said["text"] += answer.message.content or ""
        said["thought"] += answer.message.thinking or ""
        for call in answer.message.tool_calls or []:
            arguments = json.dumps(dict(call.function.arguments))
            said["raw"].append([len(said["raw"]), call.function.name, arguments])
        if answer.done:
            said["stop"] = answer.done_reason
            said["input"], said["output"] = answer.prompt_eval_count, answer.eval_count

    def streamed(self, model, asked, said):
        for answer in self.client.chat(model=model, stream=True, **asked):
            self.take(answer, said)

    def whole(self, model, asked, said):
        self.take(self.client.chat(model=model, **asked), said)

    def results(self, asked, said, results):
        calls = [{"function": {"name": name, "arguments": json.loads(text)}} for _, name, text in said["raw"]]
        more = [{"role": "assistant", "content": said["text"], "tool_calls": calls}]
        names = [raw[1] for raw in said["raw"]]
        more += [{"role": "tool", "tool_name": name, "content": text} for name, (_, text) in zip(names, results)]
        return {**asked, "messages": asked["messages"] + more}


class AsyncOllama(Ollama):
    make = ollama.AsyncClient

    async def streamed(self, model, asked, said):
        async for answer in await self.client.chat(model=model, stream=True, **asked):
            self.take(answer, said)

    async def whole(self, model, asked, said):
        self.take(await self.client.chat(model=model, **asked), said)


CLIENTS = {
    "chat": Chat,
    "responses": Responses,
    "anthropic": Anthropic,
    "ollama": Ollama,
    "async-chat": AsyncChat,
    "async-responses": AsyncResponses,
    "async-anthropic": AsyncAnthropic,
    "async-ollama": AsyncOllama,
}
# Everything that a client raises is what its caller gets, but these are mistakes of this program.
MISTAKES = (AssertionError, AttributeError, KeyError, IndexError, TypeError, NameError)


def nothing():
    return dict(text="", refusal="", thought="", raw=[], stop=None, input=None, output=None)


def what_of(model):
    """What is asked for: the word of the script behind the name of its provider."""
    return model.rsplit("/", 1)[-1].split("-")[0]


async def done(what):
    """What a client gives, of whichever kind it is."""
    return await what if inspect.isawaitable(what) else what


async def case(client, model, stream):
    what = what_of(model)
    asked, said = client.asked(what), nothing()
    ask = client.streamed if stream else client.whole
    try:
        await done(ask(model, asked, said))
        if said["raw"]:
            made = [(id, name, json.loads(text)) for id, name, text in said["raw"]]
            said["calls"] = [[name, arguments] for _, name, arguments in made]
            results = [(id, gave(at, name, arguments)) for at, (id, name, arguments) in enumerate(made)]
            after = nothing()
            await done(ask(model, client.results(asked, said, results), after))
            said["after"] = after["text"]
    except MISTAKES:
        raise
    except Exception as error:
        status = getattr(error, "status_code", None)
        headers = getattr(getattr(error, "response", None), "headers", {})
        again = headers.get("retry-after")
        said["error"] = {"kind": type(error).__name__, "status": status, "message": str(error), "again": again}
    if len(said["text"]) > 4096:
        said["text"] = "sha256 " + hashlib.sha256(said["text"].encode()).hexdigest()
    return {key: value for key, value in said.items() if key not in ("raw", "blocks")}


async def main():
    source = open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin
    spec = json.load(source)
    clients = {name: make(spec) for name, make in CLIENTS.items()}
    places = asyncio.Semaphore(AT_ONCE)

    async def one(each):
        return await case(clients[each["client"]], each["model"], each["stream"])

    async def beside(each):
        async with places:
            return await one(each)

    # Neighbours of asyncio run beside each other, the others one after the other.
    for of_asyncio, cases in itertools.groupby(enumerate(spec["cases"]), lambda at: at[1]["client"].startswith("async-")):
        cases = list(cases)
        if of_asyncio:
            all_said = await asyncio.gather(*(beside(each) for _, each in cases))
            for (at, _), said in zip(cases, all_said):
                print(json.dumps({"case": at, **said}), flush=True)
        else:
            for at, each in cases:
                print(json.dumps({"case": at, **await one(each)}), flush=True)


asyncio.run(main())
