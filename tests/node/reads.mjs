// The read tools, resources and prompts, driven by the TypeScript MCP client in both of its modes.
//
// Reads one JSON object on standard input: {url, key, mode, calls: [{tool, arguments}], resource,
// prompt: {name, arguments}}. Prints one JSON object: {tools, results, resource, prompts, prompt}.
// The client itself checks each structured answer against the tool's output schema.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const ask = JSON.parse(text);

const mode = ask.mode === "legacy" ? "legacy" : "auto";
const client = new Client(
  { name: "countersign-clients", version: "1" },
  { versionNegotiation: { mode } },
);
const transport = new StreamableHTTPClientTransport(new URL(`${ask.url}/mcp`), {
  requestInit: { headers: { Authorization: `Bearer ${ask.key}` } },
});
await client.connect(transport);

const { tools } = await client.listTools();
const results = {};
for (const call of ask.calls) {
  const answer = await client.callTool({ name: call.tool, arguments: call.arguments });
  results[call.tool] = {
    is_error: answer.isError === true,
    structured: answer.structuredContent,
    text: answer.content[0].text,
  };
}
const resource = await client.readResource({ uri: ask.resource });
const { prompts } = await client.listPrompts();
const prompt = await client.getPrompt(ask.prompt);
await client.close();

console.log(
  JSON.stringify({
    tools: tools.map((tool) => tool.name),
    results,
    resource: resource.contents[0].text,
    prompts: prompts.map((one) => one.name),
    prompt: prompt.messages[0].content.text,
  }),
);
