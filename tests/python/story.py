"""The story's AI side, driven by the Python MCP client in both of its modes.

Reads one JSON object on standard input: {url, key, namespace, pod, mode}. Proposes a restart, prints the action
id on a line of its own, then waits for the end with wait_for_action and prints that answer as one line of JSON.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    ask = json.loads(sys.stdin.readline())
    http = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {ask['key']}"}, timeout=60
    )
    transport = streamable_http_client(ask["url"] + "/mcp", http_client=http)
    async with Client(transport, mode=ask["mode"]) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"restart_pod", "get_action", "wait_for_action"} <= tools, tools
        answer = await client.call_tool(
            "restart_pod",
            {
                "namespace": ask["namespace"],
                "pod": ask["pod"],
                "reason": "driven by the Python client",
            },
        )
        assert not answer.is_error, answer
        value = answer.structured_content
        assert value["approval_url"] in answer.content[0].text
        print(value["action_id"], flush=True)
        for _ in range(20):
            answer = await client.call_tool(
                "wait_for_action",
                {"action_id": value["action_id"], "timeout_seconds": 5},
            )
            assert not answer.is_error, answer
            if answer.structured_content["ended"]:
                break
        end = answer.structured_content | {"text": answer.content[0].text}
        print(json.dumps(end), flush=True)


asyncio.run(main())
