// The clients of language models that programs in JavaScript use, unmodified, against whatever speaks their dialects.
//
// llm_clients.mjs SPEC PLACE: as tests/python/llm_clients.py, which says what goes in and what comes out. PLACE is the
// directory whose node_modules has the packages.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , file, place] = process.argv;
const spec = JSON.parse(readFileSync(file, "utf8"));
const require = createRequire(pathToFileURL(`${place}/`));
const load = async (name) => import(pathToFileURL(require.resolve(name)));

const { default: OpenAI } = await load("openai");
const { default: Anthropic } = await load("@anthropic-ai/sdk");
const { generateText, jsonSchema, Output, stepCountIs, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { createAnthropic } = await load("@ai-sdk/anthropic");

const IMAGE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const strict = (properties) => ({
  type: "object", properties, required: Object.keys(properties), additionalProperties: false,
});
const WEATHER = strict({ city: { type: "string" }, days: { type: "integer" } });
const CLOCK = strict({ zone: { type: "string" } });
const SHAPE = strict({ city: { type: "string" }, degrees: { type: "integer" } });
const TOOLS = [["weather", "The weather of some days.", WEATHER], ["clock", "The time.", CLOCK]];
const QUESTION = "What is it like – 今日?";
const gave = (number, name, input) => `${name} ${number}: ${input.city ?? input.zone}`;

const nothing = () => ({ text: "", refusal: "", thought: "", raw: [], stop: null, input: null, output: null });

/** openai, chat completions. */
class Chat {
  constructor() {
    this.client = new OpenAI({ baseURL: spec.openai, apiKey: spec.key, maxRetries: 0 });
  }

  asked(what) {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${IMAGE}` } };
    const content = what === "image" ? [{ type: "text", text: QUESTION }, image] : QUESTION;
    const asked = { messages: [{ role: "system", content: "Be brief." }, { role: "user", content }] };
    if (what === "tools") {
      const one = ([name, description, parameters]) => ({ type: "function", function: { name, description, parameters } });
      asked.tools = TOOLS.map(one);
    }
    if (what === "shape") {
      asked.response_format = { type: "json_schema", json_schema: { name: "degrees", schema: SHAPE, strict: true } };
    }
    return asked;
  }

  take(answer, said) {
    const choice = answer.choices[0];
    said.text = choice.message.content ?? "";
    said.refusal = choice.message.refusal ?? "";
    // The client keeps only the last piece of a field that it does not know.
    said.thought ||= choice.message.reasoning_content ?? "";
    said.raw = (choice.message.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]);
    said.stop = choice.finish_reason;
    said.input = answer.usage?.prompt_tokens;
    said.output = answer.usage?.completion_tokens;
  }

  async streamed(model, asked, said) {
    const stream = this.client.chat.completions.stream({ model, stream_options: { include_usage: true }, ...asked });
    for await (const chunk of stream) {
      const delta = chunk.choices[0]?.delta;
      said.text += delta?.content ?? "";
      said.thought += delta?.reasoning_content ?? "";
    }
    this.take(await stream.finalChatCompletion(), said);
  }

  async whole(model, asked, said) {
    this.take(await this.client.chat.completions.create({ model, ...asked }), said);
  }

  results(asked, said, results) {
    const calls = said.raw.map(([id, name, text]) => ({ id, type: "function", function: { name, arguments: text } }));
    const more = results.map(([id, content]) => ({ role: "tool", tool_call_id: id, content }));
    return { ...asked, messages: [...asked.messages, { role: "assistant", content: null, tool_calls: calls }, ...more] };
  }
}

/** openai, responses. */
class Responses {
  constructor() {
    this.client = new OpenAI({ baseURL: spec.openai, apiKey: spec.key, maxRetries: 0 });
  }

  asked(what) {
    const content = [{ type: "input_text", text: QUESTION }];
    if (what === "image") {
      content.push({ type: "input_image", detail: "auto", image_url: `data:image/png;base64,${IMAGE}` });
    }
    const asked = { instructions: "Be brief.", store: false, input: [{ role: "user", content }] };
    if (what === "tools") {
      asked.tools = TOOLS.map(([name, description, parameters]) => ({
        type: "function", name, description, parameters, strict: true,
      }));
    }
    if (what === "shape") {
      asked.text = { format: { type: "json_schema", name: "degrees", schema: SHAPE, strict: true } };
    }
    return asked;
  }

  take(answer, said) {
    const parts = answer.output.filter((item) => item.type === "message").flatMap((item) => item.content);
    said.text = parts.filter((part) => part.type === "output_text").map((part) => part.text).join("");
    said.refusal = parts.filter((part) => part.type === "refusal").map((part) => part.refusal).join("");
    const thoughts = answer.output.filter((item) => item.type === "reasoning").flatMap((item) => item.summary);
    said.thought = thoughts.map((part) => part.text).join("");
    said.raw = answer.output
      .filter((item) => item.type === "function_call")
      .map((item) => [item.call_id, item.name, item.arguments]);
    said.stop = answer.incomplete_details?.reason ?? answer.status;
    said.input = answer.usage?.input_tokens;
    said.output = answer.usage?.output_tokens;
  }

  async streamed(model, asked, said) {
    const stream = this.client.responses.stream({ model, ...asked });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") said.text += event.delta;
      if (event.type === "response.failed") throw new Error(`response.failed: ${event.response.error.message}`);
      if (event.type === "error") throw new Error(`error: ${event.message}`);
    }
    this.take(await stream.finalResponse(), said);
  }

  async whole(model, asked, said) {
    this.take(await this.client.responses.create({ model, ...asked }), said);
  }

  results(asked, said, results) {
    const calls = said.raw.map(([id, name, text]) => ({ type: "function_call", call_id: id, name, arguments: text }));
    const more = results.map(([id, output]) => ({ type: "function_call_output", call_id: id, output }));
    return { ...asked, input: [...asked.input, ...calls, ...more] };
  }
}

/** @anthropic-ai/sdk. */
class Messages {
  constructor() {
    this.client = new Anthropic({ baseURL: spec.anthropic, apiKey: spec.key, maxRetries: 0 });
  }

  asked(what) {
    const content = [{ type: "text", text: QUESTION }];
    if (what === "image") {
      content.push({ type: "image", source: { type: "base64", media_type: "image/png", data: IMAGE } });
    }
    const asked = { system: "Be brief.", max_tokens: 4096, messages: [{ role: "user", content }] };
    if (what === "tools") {
      asked.tools = TOOLS.map(([name, description, input_schema]) => ({ name, description, input_schema }));
    }
    if (what === "think") asked.thinking = { type: "enabled", budget_tokens: 1024 };
    if (what === "shape") asked.output_config = { format: { type: "json_schema", schema: SHAPE } };
    return asked;
  }

  take(answer, said) {
    const of = (type) => answer.content.filter((block) => block.type === type);
    said.blocks = answer.content;
    said.text = of("text").map((block) => block.text).join("");
    said.thought = of("thinking").map((block) => block.thinking).join("");
    said.signature = of("thinking").map((block) => block.signature).join("");
    said.raw = of("tool_use").map((block) => [block.id, block.name, JSON.stringify(block.input)]);
    said.stop = answer.stop_reason;
    const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = answer.usage;
    said.input = input_tokens + (cache_read_input_tokens ?? 0) + (cache_creation_input_tokens ?? 0);
    said.output = output_tokens;
  }

  async streamed(model, asked, said) {
    const stream = this.client.messages.stream({ model, ...asked });
    stream.on("text", (text) => { said.text += text; });
    this.take(await stream.finalMessage(), said);
  }

  async whole(model, asked, said) {
    this.take(await this.client.messages.create({ model, ...asked }), said);
  }

  results(asked, said, results) {
    const content = results.map(([id, text]) => ({ type: "tool_result", tool_use_id: id, content: text }));
    const more = [{ role: "assistant", content: said.blocks }, { role: "user", content }];
    return { ...asked, messages: [...asked.messages, ...more] };
  }
}

/** ai with one of its providers: it calls the tools itself and asks again. */
class Ai {
  constructor(provider) {
    this.provider = provider;
  }

  options(model, what, said) {
    const image = { type: "image", image: Buffer.from(IMAGE, "base64"), mediaType: "image/png" };
    const content = what === "image" ? [{ type: "text", text: QUESTION }, image] : QUESTION;
    const options = {
      model: this.provider(model), system: "Be brief.", messages: [{ role: "user", content }], maxRetries: 0,
      maxOutputTokens: 4096,
    };
    if (what === "tools") {
      said.calls = [];
      const one = ([name, description, schema]) => [
        name,
        tool({
          description, inputSchema: jsonSchema(schema),
          execute: async (input, { toolCallId }) => {
            const number = said.calls.length;
            said.calls.push([name, input]);
            if (!toolCallId) throw new Error("a call without an identifier");
            return gave(number, name, input);
          },
        }),
      ];
      options.tools = Object.fromEntries(TOOLS.map(one));
      options.stopWhen = stepCountIs(2);
    }
    if (what === "shape") {
      options.output = Output.object({ schema: jsonSchema(SHAPE), name: "degrees" });
      // It would not believe that a model that it does not know has that.
      options.providerOptions = { anthropic: { structuredOutputMode: "outputFormat" } };
    }
    return options;
  }

  take(steps, said) {
    const [first, second] = steps;
    said.text = first.text;
    said.thought = first.reasoningText ?? "";
    said.stop = first.finishReason;
    said.input = first.usage.inputTokens;
    said.output = first.usage.outputTokens;
    if (second) said.after = second.text;
  }

  async streamed(model, what, said) {
    let failed;
    const result = streamText({ ...this.options(model, what, said), onError: ({ error }) => { failed ??= error; } });
    for await (const part of result.fullStream) {
      if (part.type === "text-delta" && said.after === undefined) said.text += part.text;
      if (part.type === "finish-step") said.after = "";
    }
    delete said.after;
    if (failed) throw failed;
    this.take(await result.steps, said);
  }

  async whole(model, what, said) {
    this.take((await generateText(this.options(model, what, said))).steps, said);
  }
}

const CLIENTS = {
  chat: () => new Chat(),
  responses: () => new Responses(),
  anthropic: () => new Messages(),
  "ai-chat": () => new Ai(createOpenAICompatible({
    name: "octant", baseURL: spec.openai ?? process.env.OPENAI_BASE_URL, apiKey: spec.key ?? process.env.OPENAI_API_KEY,
    includeUsage: true, supportsStructuredOutputs: true,
  })),
  "ai-anthropic": () => new Ai(createAnthropic({
    baseURL: `${spec.anthropic ?? process.env.ANTHROPIC_BASE_URL}/v1`, apiKey: spec.key ?? process.env.ANTHROPIC_API_KEY,
  })),
};

async function ask(client, model, stream, said) {
  const what = model.split("/").at(-1).split("-")[0];
  const how = (from, to) => (stream ? client.streamed(model, from, to) : client.whole(model, from, to));
  if (client instanceof Ai) return how(what, said);
  const asked = client.asked(what);
  await how(asked, said);
  if (said.raw.length === 0) return undefined;
  const made = said.raw.map(([id, name, text]) => [id, name, JSON.parse(text)]);
  said.calls = made.map(([, name, input]) => [name, input]);
  const results = made.map(([id, name, input], at) => [id, gave(at, name, input)]);
  const after = nothing();
  await how(client.results(asked, said, results), after);
  said.after = after.text;
  return undefined;
}

/** What a client raises; a mistake of this program is none of that. */
function raised(error) {
  if (error instanceof ReferenceError) throw error;
  const cause = error.lastError ?? error;
  const headers = cause.headers ?? cause.responseHeaders ?? {};
  const again = headers.get ? headers.get("retry-after") : headers["retry-after"];
  const status = cause.status ?? cause.statusCode ?? null;
  return { kind: cause.constructor.name, status, message: String(cause.message), again: again ?? null };
}

/** A long text is not printed, but its digest. */
const short = (text) =>
  text.length > 4096 ? `sha256 ${createHash("sha256").update(text).digest("hex")}` : text;

const clients = {};
for (const [at, each] of spec.cases.entries()) {
  clients[each.client] ??= CLIENTS[each.client]();
  const said = nothing();
  try {
    await ask(clients[each.client], each.model, each.stream, said);
  } catch (error) {
    said.error = raised(error);
  }
  delete said.raw;
  delete said.blocks;
  console.log(JSON.stringify({ case: at, ...said, text: short(said.text) }));
}
