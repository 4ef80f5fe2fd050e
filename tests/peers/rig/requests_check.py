"""What a strict server of chat completions refuses: vLLM, llama.cpp with Jinja templates, OpenAI."""

import json

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
PARTS = {"text", "image_url", "input_audio", "file", "refusal"}


def check(request):
    """Raises ValueError with a reason that names the place."""
    messages = request.get("messages")
    require(isinstance(messages, list) and messages, "messages: a list that is not empty")
    open_calls = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        require(role in ROLES, f"{where}.role: unknown role {role!r}")
        if role == "tool":
            call = message.get("tool_call_id")
            require(call in open_calls, f"{where}.tool_call_id: {call!r} answers none of the calls {open_calls}")
            open_calls.remove(call)
        else:
            require(not open_calls, f"{where}: no result of the tool calls {open_calls}")
        calls = message.get("tool_calls")
        require(calls is None or (role == "assistant" and calls), f"{where}.tool_calls: a list that is not empty")
        for call in calls or []:
            require(call.get("type") == "function", f"{where}.tool_calls: type is not function")
            arguments = call["function"]["arguments"]
            require(isinstance(arguments, str), f"{where}.tool_calls: arguments is not a string")
            require(isinstance(json.loads(arguments), dict), f"{where}.tool_calls: arguments is not an object")
            open_calls.append(call["id"])
        content(message.get("content"), role, calls, where)
    require(not open_calls, f"messages: no result of the tool calls {open_calls}")
    tools = request.get("tools")
    require(tools is None or tools, "tools: an empty list")
    for index, tool in enumerate(tools or []):
        require(tool.get("type") == "function", f"tools[{index}].type: {tool.get('type')!r} is not function")
        require(isinstance(tool["function"].get("name"), str), f"tools[{index}].function.name: a string")
    require(not request.get("tool_choice") or tools, "tool_choice: without tools")


def content(value, role, calls, where):
    if isinstance(value, str):
        return
    if value is None:
        return require(role == "assistant" and calls, f"{where}.content: null without tool calls")
    require(isinstance(value, list), f"{where}.content: a string or a list")
    for part in value:
        require(part.get("type") in PARTS, f"{where}.content: unknown part {part.get('type')!r}")
        require(part["type"] != "text" or isinstance(part.get("text"), str), f"{where}.content: text is not a string")


def require(holds, reason):
    if not holds:
        raise ValueError(reason)
