"""The read tools, resources and prompts, driven by the Python MCP client in both of its modes.

Reads one JSON object on standard input: {url, key, mode, calls: [{tool, arguments}], resource, prompt: {name,
arguments}}. Prints one JSON object: {tools, results, resource, prompts, prompt}. The client itself checks each
structured answer against the tool's output schema.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    ask = json.loads(sys.stdin.read())
    http = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {ask['key']}"}, timeout=60
    )
    transport = streamable_http_client(ask["url"] + "/mcp", http_client=http)
    async with Client(transport, mode=ask["mode"]) as client:
        tools = (await client.list_tools()).tools
        results = {}
        for call in ask["calls"]:
            answer = await client.call_tool(call["tool"], call["arguments"])
            results[call["tool"]] = {
                "is_error": bool(answer.is_error),
                "structured": answer.structured_content,
                "text": answer.content[0].text,
            }
        resource = await client.read_resource(ask["resource"])
        prompts = (await client.list_prompts()).prompts
        prompt = await client.get_prompt(
            ask["prompt"]["name"], ask["prompt"]["arguments"]
        )
        told = {
            "tools": [tool.name for tool in tools],
            "results": results,
            "resource": resource.contents[0].text,
            "prompts": [one.name for one in prompts],
            "prompt": prompt.messages[0].content.text,
        }
        print(json.dumps(told))


asyncio.run(main())
