- id: sess-da4d9e9951f89484cc17d358cb870ace
  ownerId: bob
  status: connected
  features:
  - cancel
  - result-stream
  - chunk-seq
  - status
  - drain
  - endpoints
  llms:
  - smollm2-135m-instruct.q4_1
  agents: []
  lastHeartbeatAt: 2026-11-21T08:54:20.523Z
  createdAt: 2026-11-21T08:47:20.505Z
- id: sess-e73364ecf8db44e93e0e5477145aa8d8
  ownerId: alice
  status: connected
  features:
  - cancel
  - result-stream
  - chunk-seq
  - status
  - drain
  - endpoints
  llms:
  - smol
  agents: []
  lastHeartbeatAt: 2026-11-21T08:54:31.092Z
  createdAt: 2026-11-21T08:46:52.921Z
