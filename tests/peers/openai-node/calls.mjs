// What a program does with the SDK: each call of the hub's APIs, whole and streamed, a tool loop, structured output, errors.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0 });
const model = "gpt-5";
const messages = [{ role: "user", content: "Say five words for me" }];

const whole = await client.chat.completions.create({ model, messages });
assert.equal(whole.choices[0].message.content, "Say five words for me");
assert.equal(whole.usage.completion_tokens, 5);

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  text += chunk.choices[0]?.delta.content ?? "";
}
assert.equal(text, "Say five words for me");

const final = await client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
assert.equal((await final.finalChatCompletion()).usage.completion_tokens, 5);

const weather = { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } };
const asked = [];
const runner = client.chat.completions.runTools({
  model,
  messages: [{ role: "user", content: "What is the weather in Berlin?" }],
  tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: ({ city }) => { asked.push(city); return "rain"; } } }],
});
assert.equal(await runner.finalContent(), "What is the weather in Berlin?");
assert.deepEqual(asked, ["Berlin"]);

const answer = z.object({ city: z.string(), degrees: z.number() });
const parsed = await client.chat.completions.parse({
  model,
  messages: [{ role: "user", content: "It has 21 degrees in Berlin" }],
  response_format: zodResponseFormat(answer, "answer"),
});
assert.deepEqual(parsed.choices[0].message.parsed, { city: "Berlin", degrees: 21 });

const response = await client.responses.create({ model, input: "Say five words for me" });
assert.equal(response.output_text, "Say five words for me");
const types = [];
for await (const event of await client.responses.create({ model, input: "Hi", stream: true })) types.push(event.type);
assert.equal(types.at(0), "response.created");
assert.equal(types.at(-1), "response.completed");
assert.equal((await client.responses.stream({ model, input: "Hi" }).finalResponse()).output_text, "Hi");

// The SDK asks for base64, unless told otherwise, and decodes it.
const numbers = await client.embeddings.create({ model: "mock", input: "one text", encoding_format: "float" });
const decoded = await client.embeddings.create({ model: "mock", input: "one text" });
assert.equal(decoded.data[0].embedding.length, numbers.data[0].embedding.length);
decoded.data[0].embedding.forEach((number, at) => assert(Math.abs(number - numbers.data[0].embedding[at]) < 1e-6));

const ids = [];
for await (const listed of client.models.list()) ids.push(listed.id);
assert(ids.includes("mock") && ids.includes("general"));
assert.equal((await client.models.retrieve("mock")).id, "mock");
assert.equal((await client.completions.create({ model, prompt: "Hi" }).catch((error) => error)).status, 404);
assert.equal((await client.completions.create({ model: "mock", prompt: "Hi" })).choices[0].text, "Hi");

await assert.rejects(client.chat.completions.create({ model: "nothing", messages }), OpenAI.NotFoundError);
await assert.rejects(client.responses.retrieve("resp_1"), OpenAI.NotFoundError);
const stranger = new OpenAI({ apiKey: "wrong", maxRetries: 0 });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
