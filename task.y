- id: task-11b10d046811f4845d552faf6fead6e1
  status: completed
  llm: smollm
  poolName: smollm
  llmName: smol
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: false
  durable: true
  worker: sess-e73364ecf8db44e93e0e5477145aa8d8
  ownerId: admin
  createdAt: 2026-11-21T08:54:29.978Z
  updatedAt: 2026-11-21T08:54:30.117Z
- id: task-4cf683870b3af47fa07122870fc8a920
  status: error
  llm: gpt
  poolName: null
  llmName: gpt
  model: m
  streaming: false
  durable: true
  worker: null
  ownerId: admin
  error: the upstream cannot be reached
  createdAt: 2026-11-21T08:54:29.972Z
  updatedAt: 2026-11-21T08:54:29.983Z
- id: inf-2eb334160dcda5fdc3d4ffe7b569d9c6
  status: completed
  llm: smollm
  poolName: smollm
  llmName: smollm2-135m-instruct.q4_1
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: true
  durable: false
  worker: sess-da4d9e9951f89484cc17d358cb870ace
  ownerId: bob
  createdAt: 2026-11-21T08:47:23.180Z
  updatedAt: 2026-11-21T08:47:23.374Z
- id: inf-dd80992e4b40022de34aca7b4ce48fda
  status: completed
  llm: smollm
  poolName: smollm
  llmName: smollm2-135m-instruct.q4_1
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: true
  durable: false
  worker: sess-da4d9e9951f89484cc17d358cb870ace
  ownerId: bob
  createdAt: 2026-11-21T08:47:23.174Z
  updatedAt: 2026-11-21T08:47:23.369Z
- id: inf-348533d16d7873494a1abfb22564f4f4
  status: completed
  llm: smollm
  poolName: smollm
  llmName: smollm2-135m-instruct.q4_1
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: true
  durable: false
  worker: sess-da4d9e9951f89484cc17d358cb870ace
  ownerId: bob
  createdAt: 2026-11-21T08:47:23.174Z
  updatedAt: 2026-11-21T08:47:23.310Z
- id: inf-9f2e9109ccfa8f03f0160f3b625a3349
  status: completed
  llm: smollm
  poolName: smollm
  llmName: smollm2-135m-instruct.q4_1
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: true
  durable: false
  worker: sess-da4d9e9951f89484cc17d358cb870ace
  ownerId: bob
  createdAt: 2026-11-21T08:47:23.173Z
  updatedAt: 2026-11-21T08:47:23.300Z
- id: inf-158c8a8d51d3a747b4a49113e2e9a029
  status: completed
  llm: smol
  poolName: null
  llmName: smol
  model: SmolLM2-135M-Instruct.Q4_1.gguf
  streaming: true
  durable: false
  worker: sess-e73364ecf8db44e93e0e5477145aa8d8
  ownerId: alice
  createdAt: 2026-11-21T08:46:54.921Z
  updatedAt: 2026-11-21T08:46:57.910Z
