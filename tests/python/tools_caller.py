"""An agent that calls another's tools by the official SDK, over `octant mcp`."""

import asyncio

from mcp import ClientSession, StdioServerParameters, stdio_client


async def main() -> None:
    octant = StdioServerParameters(command="/octant", args=["mcp"])
    async with stdio_client(octant) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        print("listed:", *[name for name in tools if "__" in name])
        added = await session.call_tool("notes__add", {"a": 2, "b": 3})
        print("added:", added.structured_content)
        # What the server cannot read its callers cannot read through it.
        other = await session.call_tool("notes__read", {"path": "/etc/shadow"})
        print("not read:", other.is_error)
        denied = await session.call_tool("others__add", {"a": 2, "b": 3})
        print("not called:", denied.content[0].text)


asyncio.run(main())
