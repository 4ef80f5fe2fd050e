- id: agent-8cd199f4576ce5e6c8956ff2d9433ea1
  name: helper
  llmName: smollm
  description: null
  systemPrompt: Answer briefly.
  project: null
  defaultParams:
    max_tokens: 30
  extras: null
  kind: public
  status: active
  visibility: public
  ownerId: admin
  providerSessionId: null
  lastHeartbeatAt: null
  inactiveSince: null
  createdAt: 2026-11-21T08:54:29.968Z
  updatedAt: 2026-11-21T08:54:29.968Z
