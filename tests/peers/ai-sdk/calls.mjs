// What a program does with the AI SDK, on each of its three providers: text, a stream, a tool loop over several steps, an object.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embed, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const settings = { baseURL: `${process.env.HUB}/v1`, apiKey: process.env.TOKEN_APP };
const compatible = createOpenAICompatible({ name: "hub", ...settings, supportsStructuredOutputs: true });
const openai = createOpenAI(settings);
const models = [compatible("general"), openai.chat("general"), openai("general"), createAnthropic(settings)("general")];

for (const model of models) {
  const options = { model, maxRetries: 0 };
  assert.equal((await generateText({ ...options, prompt: "Say five words for me" })).text, "Say five words for me");

  const stream = streamText({ ...options, prompt: "Say five words for me" });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, "Say five words for me");
  assert.equal(await stream.finishReason, "stop");

  const cities = [];
  const weather = tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { cities.push(city); return "rain"; },
  });
  const loop = { ...options, tools: { weather }, stopWhen: isStepCount(5), prompt: "What is the weather in Berlin?" };
  assert.equal((await generateText(loop)).steps.length, 2);
  assert.equal((await streamText(loop).steps).length, 2);
  assert.deepEqual(cities, ["Berlin", "Berlin"]);

  const schema = z.object({ city: z.string(), degrees: z.number() });
  const object = await generateText({ ...options, output: Output.object({ schema }), prompt: "It has 21 degrees in Berlin" });
  assert.deepEqual(object.output, { city: "Berlin", degrees: 21 });
}

const value = "one text";
const vectors = await Promise.all([compatible.embeddingModel("mock"), openai.embedding("mock")].map((model) => embed({ model, value })));
assert.deepEqual(vectors[0].embedding, vectors[1].embedding);
await assert.rejects(generateText({ model: openai("nothing"), maxRetries: 0, prompt: "Hi" }), /not found/);
