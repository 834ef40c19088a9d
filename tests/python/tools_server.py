"""A server of tools by the official SDK, as somebody else would write it: it knows nothing of Octant."""

from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def read(path: str) -> str:
    """Reads a file of the machine that the server runs on."""
    return Path(path).read_text()


server.run("stdio")
