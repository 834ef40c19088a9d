"""An editor, as the Agent Client Protocol's own Python library is one: drives `octant acp` and prints what it saw.

usage: acp_client.py OCTANT ARGUMENT...   (what starts the agent side: octant --dir DIR acp --manifest FILE)

Every message goes through the library's types, which are made from the protocol's schema.
"""

import asyncio
import json
import sys

import acp
from acp import schema


class Editor(acp.Client):
    """Keeps the updates, and allows what it is asked."""

    def __init__(self):
        self.updates, self.asked = [], 0

    async def session_update(self, session_id, update, **_):
        self.updates.append(update)

    async def request_permission(self, session_id, tool_call, options, **_):
        self.asked += 1
        allow = next(option.option_id for option in options if option.kind == "allow_once")
        return schema.RequestPermissionResponse(outcome=schema.AllowedOutcome(outcome="selected", option_id=allow))

    def told(self):
        """What was seen since the last time."""
        seen, self.updates = self.updates, []
        said = "".join(u.content.text for u in seen if u.session_update == "agent_message_chunk")
        calls = [(u.title, u.kind) for u in seen if u.session_update == "tool_call"]
        ended = [u.status for u in seen if u.session_update == "tool_call_update" and u.status != "pending"]
        return {"said": said, "calls": calls, "ended": ended}


async def main():
    editor = Editor()
    async with acp.spawn_agent_process(lambda _: editor, *sys.argv[1:]) as (agent, _process):
        begun = await agent.initialize(protocol_version=1)
        print(json.dumps({"version": begun.protocol_version, "load": begun.agent_capabilities.load_session}))
        session = (await agent.new_session(cwd="/", mcp_servers=[])).session_id
        first = await agent.prompt(session_id=session, prompt=[acp.text_block("write and run")])
        print(json.dumps({"stop": first.stop_reason, "asked": editor.asked, **editor.told()}))
        second = asyncio.ensure_future(agent.prompt(session_id=session, prompt=[acp.text_block("sleep")]))
        while not any(u.session_update == "tool_call" for u in editor.updates):
            await asyncio.sleep(0.05)
        await agent.cancel(session_id=session)
        print(json.dumps({"stop": (await second).stop_reason}))
        third = await agent.prompt(session_id=session, prompt=[acp.text_block("say")])
        editor.told()
        print(json.dumps({"stop": third.stop_reason, "session": session}))


asyncio.run(main())
