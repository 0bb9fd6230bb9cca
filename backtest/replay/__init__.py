"""Replays: a market's history under a scenario. Arrays and values in, records out; nothing here reads or writes
anything.
"""

ENGINE_VERSION = "9"
"""Part of every run id: a change to what a replay does needs a new one."""
