"""A hub, a registrar and a stand-in for model servers, on free ports of 127.0.0.1."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

RIG = Path(__file__).parent
# Seconds for a process to be ready.
READY = 30
# Names that the peers' tests and examples ask for.
NAMES = [
    "gpt-*", "claude-*", "text-embedding-*", "llama*", "gemma*", "deepseek*", "codellama*", "qwen3*", "model", "model_id", "string",
    "default",
]


class Hub:
    """Users: `publisher` has the LLMs, the others call them. The aliases of `echo` stand for the mock, those of `app` for
    the stand-in's general model; `guest` has none."""

    def __init__(self, binary, folder, backend=None):
        self.binary, self.folder, self.processes, self.backend = str(binary), folder, [], backend
        self.requests = folder / "requests"
        self.home = folder / "mcpctl"
        for path in (self.requests, self.home):
            path.mkdir(mode=0o700)

    def __enter__(self):
        port_file = self.folder / "stand-in.port"
        self.start("stand-in", [sys.executable, str(RIG / "stand_in.py"), str(port_file), str(self.requests)])
        port = self.wait("the stand-in's port", lambda: port_file.exists() and port_file.read_text())
        self.start("hub", [self.binary, "hub", "--listen", "127.0.0.1:0", "--in-memory"], {"VIRTUAL_LLM_ADMIN_TOKEN": "p" * 32})
        listens = lambda: re.search(r"listens on (http://\S+)", (self.folder / "hub.log").read_text())
        self.url = self.wait("the hub's address", listens)[1]
        self.tokens = {"admin": "p" * 32}
        for user in ("publisher", "echo", "app", "guest"):
            self.tokens[user] = self.cli("admin", "token", "create", "--user", user).strip()
        self.publish(port)
        for name in NAMES:
            self.cli("echo", "alias", "set", name, "mock")
            # The stand-in has no completions.
            self.cli("app", "alias", "set", name, "mock" if name.startswith("codellama") else "general")
        return self

    def publish(self, port):
        """One LLM for the mock, one for the general model, and one for each script."""
        scripts = [file.parent.name for file in RIG.parent.glob("*/script.json")]
        stand_in = {"type": "openai", "url": f"http://127.0.0.1:{port}/v1", "maxConcurrency": 16}
        common = {"publish": True, "visibility": "public", "allowRemoteUrls": True}
        providers = [{"name": "mock", "type": "mock", "model": "mock", "maxConcurrency": 16} | common]
        providers += [{"name": name, "model": name} | stand_in | common for name in ("general", *scripts)]
        if self.backend:
            # A server with one model does not mind its name.
            providers[1]["url"] = self.backend
        (self.home / "config.json").write_text(json.dumps({"llm": {"providers": providers}}))
        os.chmod(self.home / "config.json", 0o600)
        self.start("publish", [self.binary, "publish"], self.login("publisher"))
        self.wait("the LLMs", lambda: all(f"{p['name']}\n" in self.names() for p in providers))

    def names(self):
        return self.cli("guest", "get", "llm", "-o", "name").replace("llm/", "")

    def login(self, user):
        """Environment of our commands for this user."""
        return {"MCPCTL_HOME": str(self.home), "MCPD_URL": self.url, "MCPD_TOKEN": self.tokens[user]}

    def cli(self, user, *args):
        environment = os.environ | self.login(user)
        done = subprocess.run([self.binary, *args], env=environment, capture_output=True, text=True, timeout=READY)
        if done.returncode:
            raise RuntimeError(f"virtual-llm {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def start(self, name, command, environment=None):
        with open(self.folder / f"{name}.log", "w") as log:
            environment = os.environ | {"MCPCTL_HOME": str(self.home)} | (environment or {})
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def wait(self, what, condition):
        end = time.monotonic() + READY
        while time.monotonic() < end:
            if found := condition():
                return found
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[0]} ended; its log is in {self.folder}")
            time.sleep(0.05)
        raise RuntimeError(f"{what}: not within {READY} s")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
