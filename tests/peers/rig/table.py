"""The table of peers, and its place in README."""

import json
import re

BEGIN = "<!-- peers: written by tests/peers/run --table -->"
END = "<!-- /peers -->"


def version(package, venv, sdists, node):
    """The version that is installed, of `pypi:NAME` or `npm:NAME`."""
    registry, name = package.split(":")
    if registry == "npm":
        return json.loads((node / "node_modules" / name / "package.json").read_text())["version"]
    metadata = next(venv.glob(f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info/METADATA")).read_text()
    return re.search(r"^Version: (.+)$", metadata, re.MULTILINE)[1]


def text(rows):
    results = ["" if row["passed"] else " **failed**" for row in rows]
    lines = [f"| {row['title']} | {row['version']} | {row['did']}{result} |" for row, result in zip(rows, results)]
    return "\n".join(["| peer | version | what ran |", "| --- | --- | --- |", *lines])


def split(file):
    before, rest = file.read_text().split(BEGIN)
    inside, after = rest.split(END)
    return before, inside, after


def is_in(file, rows):
    return split(file)[1].strip() == text(rows)


def write(file, rows):
    before, _, after = split(file)
    file.write_text(f"{before}{BEGIN}\n{text(rows)}\n{END}{after}")
