#!/usr/bin/env python3
"""Stand-in for a model server: chat completions and embeddings, strict about requests, answers made from the request.

A peer needs a model that calls tools and fills in schemas; the mock only echoes. This server has no other API, so that
messages and responses are translated. Like vLLM it refuses a request whose tool calls and results do not match.

    stand_in.py PORT_FILE LOG_DIR       serves on a free port of 127.0.0.1, which it writes to PORT_FILE

A model that is named like a file `tests/peers/<model>/script.json` follows that script, others are general:
`answers.py`. One line for each request is added to `LOG_DIR/<model>.jsonl`: the number of messages, the offered tools and
the step of the script.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import answers
import requests_check

LOG = Path(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.rstrip("/").endswith("/models"):
            models = [{"id": name, "object": "model", "max_model_len": 131072} for name in ("general", *answers.SCRIPTS)]
            self.send_json(200, {"object": "list", "data": models})
        else:
            self.send_json(404, {"error": {"message": "there is no such path", "type": "invalid_request_error"}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.endswith("/embeddings"):
            return self.send_json(200, answers.embeddings(json.loads(body)))
        if not self.path.endswith("/chat/completions"):
            return self.send_json(404, {"detail": "Not Found"})
        try:
            request = json.loads(body)
            requests_check.check(request)
            answer = answers.answer(request)
            self.note(request, answer)
        except ValueError as error:
            self.note({"model": "refused"}, {"refused": str(error)})
            return self.send_json(400, {"error": {"message": str(error), "type": "invalid_request_error", "code": 400}})
        if request.get("stream"):
            self.send_events(answers.chunks(request, answer))
        else:
            self.send_json(200, answers.whole(request, answer))

    def note(self, request, answer):
        tools = [tool["function"]["name"] for tool in request.get("tools") or []]
        line = {"messages": len(request.get("messages", [])), "tools": tools, **answer}
        with open(LOG / f"{request['model']}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def send_json(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_events(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in [*map(json.dumps, events), "[DONE]"]:
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port_file = Path(sys.argv[1])
    part = port_file.with_suffix(".part")
    part.write_text(str(server.server_port))
    part.rename(port_file)
    server.serve_forever()
