// What a program does with the SDK: messages, whole and streamed, a tool runner, counts, models, errors.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";

const client = new Anthropic({ maxRetries: 0 });
const ask = (content) => ({ model: "claude-sonnet-5-5", max_tokens: 100, messages: [{ role: "user", content }] });

const whole = await client.messages.create(ask("Say five words for me"));
assert.deepEqual(whole.content, [{ type: "text", text: "Say five words for me" }]);
assert.equal(whole.stop_reason, "end_turn");
assert.equal(whole.usage.output_tokens, 5);

const stream = client.messages.stream(ask("Say five words for me"));
assert.equal(await stream.finalText(), "Say five words for me");
assert.equal((await stream.finalMessage()).usage.output_tokens, 5);
assert.equal((await client.messages.create({ ...ask("one two three"), max_tokens: 2 })).stop_reason, "max_tokens");

// The runner sends the new messages alone until it reads that the hub holds no thread.
const cities = [];
const weather = betaZodTool({
  name: "weather",
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  run: ({ city }) => { cities.push(city); return "rain"; },
});
for (const stream of [false, true]) {
  const runner = client.beta.messages.toolRunner({ ...ask("What is the weather in Berlin?"), tools: [weather], stream });
  const said = await runner.runUntilDone();
  assert.equal(said.content.at(-1).text, "What is the weather in Berlin?");
}
assert.deepEqual(cities, ["Berlin", "Berlin"]);

const { max_tokens, ...counted } = ask("Say five words for me");
assert((await client.messages.countTokens(counted)).input_tokens >= 5);
const ids = [];
for await (const model of client.models.list({ limit: 2 })) ids.push(model.id);
assert(ids.includes("mock") && ids.includes("general"));
assert.equal((await client.models.retrieve("mock")).id, "mock");

await assert.rejects(client.messages.create({ ...ask("Hi"), model: "nothing" }), Anthropic.NotFoundError);
await assert.rejects(new Anthropic({ apiKey: "wrong", maxRetries: 0 }).models.list(), Anthropic.AuthenticationError);
