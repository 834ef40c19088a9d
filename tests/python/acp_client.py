"""An editor, as the Agent Client Protocol's own Python library is one: drives `octant acp` and prints what it saw.

usage: acp_client.py OCTANT ARGUMENT...   (what starts the agent side: octant --dir DIR acp --manifest FILE --key KEY)

The model behind the agent does errands, a call for each (`errand:write`, `errand:borrow`, `errand:sleep`); borrowing needs
approval. Every message goes through the library's types, which are made from the protocol's schema.
"""

import asyncio
import json
import os
import sys

import acp
from acp import schema


class Editor(acp.Client):
    """Keeps the updates, and answers what it is asked as its user has it."""

    def __init__(self):
        self.updates, self.answers, self.asked = [], [], []
        self.called = asyncio.Event()

    async def session_update(self, session_id, update, **_):
        self.updates.append(update)
        if update.session_update == "tool_call":
            self.called.set()

    async def request_permission(self, session_id, tool_call, options, **_):
        kind = self.answers.pop(0)
        self.asked.append(f"{tool_call.title}: {kind}")
        chosen = next(option.option_id for option in options if option.kind == kind)
        return schema.RequestPermissionResponse(outcome=schema.AllowedOutcome(outcome="selected", option_id=chosen))

    def told(self):
        """What was seen since the last time."""
        seen, self.updates = self.updates, []
        asked, self.asked = self.asked, []
        said = "".join(u.content.text for u in seen if u.session_update == "agent_message_chunk")
        # One that waited for its approval is told again when it is made.
        calls = {u.tool_call_id: f"{u.title} {u.kind}" for u in seen if u.session_update == "tool_call"}
        ended = [u.status for u in seen if u.session_update == "tool_call_update" and u.status != "pending"]
        return {"said": said, "calls": list(calls.values()), "ended": ended, "asked": asked}


def show(what, **seen):
    print(f"{what}: {json.dumps(seen)}", flush=True)


def spawned(editor):
    # The library gives it next to nothing of the environment, in which it stands where Octant is.
    return acp.spawn_agent_process(lambda _: editor, *sys.argv[1:], env=dict(os.environ))


async def prompted(what, editor, agent, session, text, answers=()):
    """A turn, from its prompt to its end."""
    editor.answers = list(answers)
    turn = await agent.prompt(session_id=session, prompt=[acp.text_block(text)])
    show(what, stop=turn.stop_reason, **editor.told())


async def loaded(session):
    """Another window of the same editor: the session is there, with all that was, and goes on."""
    editor = Editor()
    async with spawned(editor) as (agent, _process):
        await agent.initialize(protocol_version=1)
        try:
            await agent.load_session(cwd="/", session_id="of-nobody", mcp_servers=[])
        except acp.RequestError as error:
            show("unknown", error=str(error))
        await agent.load_session(cwd="/", session_id=session, mcp_servers=[])
        while len([u for u in editor.updates if u.session_update == "agent_message_chunk"]) < 8:
            await asyncio.sleep(0.05)
        show("loaded", calls=editor.told()["calls"])
        await prompted("went on", editor, agent, session, "errand:write")


async def main():
    editor = Editor()
    async with spawned(editor) as (agent, _process):
        begun = await agent.initialize(protocol_version=1)
        show("initialized", version=begun.protocol_version, load=begun.agent_capabilities.load_session)
        session = (await agent.new_session(cwd="/", mcp_servers=[])).session_id
        await prompted("written", editor, agent, session, "errand:write")
        await prompted("allowed", editor, agent, session, "errand:borrow", ["allow_once"])
        await prompted("denied", editor, agent, session, "errand:borrow", ["reject_once"])
        editor.called.clear()
        sleeping = asyncio.ensure_future(agent.prompt(session_id=session, prompt=[acp.text_block("errand:sleep")]))
        await editor.called.wait()
        await agent.cancel(session_id=session)
        show("cancelled", stop=(await sleeping).stop_reason, **editor.told())
        await prompted("after", editor, agent, session, "How many?")
        await loaded(session)
        print("session:", session, flush=True)


asyncio.run(main())
