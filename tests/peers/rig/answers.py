"""Answers of the stand-in.

The general model calls the first offered tool once, with arguments made from its schema, fills in the schema of
`response_format`, thinks if it is asked to, and else repeats the last text of the user.

A script is a list of steps: `{"call": [TOOL, ARGUMENTS]}` or `{"say": TEXT}`. The number of tool results since the
task was given chooses the step. In its texts, `{word}` is what a result said after "the secret word is", which proves that
the result has reached the model, and `{dir}` the first absolute path at the end of a line. A request without the
task or without tools (a title, a summary) is answered by the general model.
"""

import hashlib
import json
import re
import time
from pathlib import Path

TASK = "secret word"
SCRIPTS = {
    file.parent.name: json.loads(file.read_text()) for file in Path(__file__).parent.parent.glob("*/script.json")
}


def answer(request):
    """The content of an answer: `text`, `reasoning`, `calls` as pairs of name and arguments, `finish`, `step`."""
    script = SCRIPTS.get(request["model"])
    if script and request.get("tools") and any(TASK in text_of(m) for m in request["messages"] if m["role"] == "user"):
        return scripted(script, request)
    found = {"reasoning": None, "calls": [], "text": None, "finish": "stop"}
    # By OpenAI's parameter, or by the variable that most templates of models read.
    if request.get("reasoning_effort") not in (None, "none") or request.get("chat_template_kwargs", {}).get("enable_thinking"):
        found["reasoning"] = "Let me think about it."
    if tool := wanted_tool(request):
        found["calls"] = [(tool["name"], from_schema(tool.get("parameters") or {}, last_text(request)))]
        found["finish"] = "tool_calls"
        return found
    text = formatted(request) or " ".join(last_text(request).split()) or "hello"
    for stop in [request.get("stop")] if isinstance(request.get("stop"), str) else request.get("stop") or []:
        text = text.split(stop)[0]
    words = text.split(" ")
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit and len(words) > limit:
        words, found["finish"] = words[:limit], "length"
    found["text"] = " ".join(words)
    return found


def scripted(script, request):
    messages = request["messages"]
    begin = max(i for i, m in enumerate(messages) if m["role"] == "user" and TASK in text_of(m))
    results = [text_of(m) for m in messages[begin:] if m["role"] == "tool"]
    number = min(len(results), len(script) - 1)
    word, folder = first_match(r"the secret word is (\w+)", results), first_match(r"(?m)(/\S+)$", results)
    fill = lambda text: text.replace("{word}", word).replace("{dir}", folder)
    step = script[number]
    if "say" in step:
        return {"reasoning": None, "calls": [], "text": fill(step["say"]), "finish": "stop", "step": number + 1}
    name, arguments = step["call"]
    offered = [tool["function"]["name"] for tool in request["tools"]]
    if name not in offered:
        raise ValueError(f"the script calls {name}, and the tools are {', '.join(offered)}")
    arguments = json.loads(fill(json.dumps(arguments)))
    return {"reasoning": None, "calls": [(name, arguments)], "text": None, "finish": "tool_calls", "step": number + 1}


def first_match(pattern, texts):
    """What the pattern's group matches in the first text that it matches."""
    return next((m[1] for m in map(re.compile(pattern).search, texts) if m), "UNKNOWN")


def wanted_tool(request):
    choice, tools = request.get("tool_choice"), [tool["function"] for tool in request.get("tools") or []]
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        return next(tool for tool in tools if tool["name"] == name)
    if not tools or choice == "none" or (choice != "required" and request["messages"][-1]["role"] != "user"):
        return None
    # The tool that the user names, else the first.
    return next((tool for tool in tools if tool["name"] in last_text(request)), tools[0])


def formatted(request):
    kind = request.get("response_format") or {}
    if kind.get("type") == "json_schema":
        return json.dumps(from_schema(kind["json_schema"].get("schema") or {}, last_text(request)))
    # The keys are those that the user quotes.
    names = re.findall(r"'(\w+)'", last_text(request)) or ["answer"]
    return json.dumps(dict.fromkeys(names, "text")) if kind.get("type") == "json_object" else None


def from_schema(schema, text, root=None):
    """A value that fits the schema; numbers and names come from the user's text."""
    if not isinstance(schema, dict):
        return "text"
    root = root or schema
    again = lambda part: from_schema(part, text, root)
    if "$ref" in schema:
        found = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        return again(found)
    for key in ("anyOf", "oneOf", "allOf"):
        if options := schema.get(key):
            return again(next((option for option in options if option.get("type") != "null"), options[0]))
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else kind
    match kind:
        case "object":
            return {name: again(part) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [again(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            number = re.search(r"\d+", text)
            return max(int(number[0]) if number else 1, schema.get("minimum", 0))
        case "boolean":
            return True
        case "null":
            return None
    # What the user quotes, else the last name.
    return next(iter(re.findall(r"'([^']+)'", text) or reversed(re.findall(r"\b[A-Z][a-z]+\b", text))), "text")


def text_of(message):
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def last_text(request):
    return next((text_of(m) for m in reversed(request["messages"]) if m["role"] == "user"), "")


def usage(request, found):
    output = len((found["text"] or "").split()) + sum(len(json.dumps(call[1])) // 4 + 4 for call in found["calls"])
    thought = len((found["reasoning"] or "").split())
    prompt = sum(len(text_of(message).split()) for message in request["messages"])
    return {
        "prompt_tokens": prompt, "completion_tokens": output + thought, "total_tokens": prompt + output + thought,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": thought},
    }


def calls(found):
    """Tool calls as the API has them; ids are unique in a conversation."""
    for index, (name, arguments) in enumerate(found["calls"]):
        function = {"name": name, "arguments": json.dumps(arguments)}
        yield {"index": index, "id": f"call_{time.time_ns()}{index}", "type": "function", "function": function}


def head(request, object_):
    return {"id": f"chatcmpl-{time.time_ns()}", "object": object_, "created": int(time.time()), "model": request["model"]}


def whole(request, found):
    message = {"role": "assistant", "content": found["text"]}
    if found["reasoning"]:
        message["reasoning_content"] = found["reasoning"]
    if found["calls"]:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls(found)]
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": found["finish"]}
        for index in range(request.get("n") or 1)
    ]
    return head(request, "chat.completion") | {"choices": choices, "usage": usage(request, found)}


def chunks(request, found):
    """A stream in small pieces: a word at a time, and arguments of eight letters."""
    first = head(request, "chat.completion.chunk")
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in pieces(found["reasoning"])]
    deltas += [{"content": piece} for piece in pieces(found["text"])]
    for call in calls(found):
        arguments = call["function"].pop("arguments")
        deltas.append({"tool_calls": [call | {"function": call["function"] | {"arguments": ""}}]})
        for start in range(0, len(arguments), 8):
            part = {"index": call["index"], "function": {"arguments": arguments[start : start + 8]}}
            deltas.append({"tool_calls": [part]})
    for index in range(request.get("n") or 1):
        for delta in deltas:
            yield first | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]}
        yield first | {"choices": [{"index": index, "delta": {}, "logprobs": None, "finish_reason": found["finish"]}]}
    if (request.get("stream_options") or {}).get("include_usage"):
        yield first | {"choices": [], "usage": usage(request, found)}


def embeddings(request):
    """Numbers made from each text; never base64, which some servers do not know."""
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    numbers = lambda text: [byte / 255 for byte in hashlib.sha256(json.dumps(text).encode()).digest()[:8]]
    data = [{"object": "embedding", "index": index, "embedding": numbers(text)} for index, text in enumerate(texts)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": request["model"], "data": data, "usage": usage}


def pieces(text):
    return re.findall(r"\S+\s*|\s+", text or "")
