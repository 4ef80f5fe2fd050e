// What a program does with the client: each call of Ollama's API that the hub has, and what is refused.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const { HUB, TOKEN_APP } = process.env;
const ollama = new Ollama({ host: HUB, headers: { authorization: `Bearer ${TOKEN_APP}` } });
const model = "general";
const messages = [{ role: "user", content: "Say five words for me" }];

const whole = await ollama.chat({ model, messages });
assert.equal(whole.message.content, "Say five words for me");
assert.equal(whole.eval_count, 5);
let text = "";
let last;
for await (last of await ollama.chat({ model, messages, stream: true })) text += last.message.content;
assert.equal(text, "Say five words for me");
assert(last.done && last.done_reason === "stop");
assert.equal((await ollama.chat({ model, messages, options: { num_predict: 2 } })).done_reason, "length");
assert.equal((await ollama.chat({ model, messages, think: true })).message.thinking, "Let me think about it.");
assert.equal((await ollama.generate({ model, prompt: "Say five words for me" })).response, "Say five words for me");

const weather = { name: "weather", description: "", parameters: { type: "object", properties: { city: { type: "string" } } } };
const question = { role: "user", content: "What is the weather in Berlin?" };
const tools = [{ type: "function", function: weather }];
const { message } = await ollama.chat({ model, messages: [question], tools });
assert.deepEqual(message.tool_calls[0].function.arguments, { city: "Berlin" });
const result = { role: "tool", tool_name: "weather", content: "rain" };
const said = await ollama.chat({ model, messages: [question, message, result], tools });
assert.equal(said.message.content, "What is the weather in Berlin?");

const format = { type: "object", properties: { city: { type: "string" }, degrees: { type: "integer" } } };
const object = await ollama.chat({ model, messages: [{ role: "user", content: "It has 21 degrees in Berlin" }], format });
assert.deepEqual(JSON.parse(object.message.content), { city: "Berlin", degrees: 21 });

const { embeddings } = await ollama.embed({ model: "mock", input: ["one text", "another", "one text"] });
assert.deepEqual(embeddings[0], embeddings[2]);
const names = (await ollama.list()).models.map((listed) => listed.name);
assert(names.includes("general:latest") && names.includes("mock:latest"));
assert((await ollama.show({ model })).capabilities.includes("completion"));
assert((await ollama.ps()).models.length > 0);
await assert.rejects(ollama.chat({ model: "nothing", messages }), /not found/);
await assert.rejects(ollama.pull({ model: "llama3.2" }));
await assert.rejects(new Ollama({ host: HUB }).list(), { status_code: 401 });
