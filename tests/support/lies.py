"""Nodes that lie: what they change in a reply."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.support import faults as f


def counted_anew(log: dict[str, Any]) -> dict[str, Any]:
    """The made-up chain has three logs a transaction."""
    return {**log, "logIndex": hex(int(log["logIndex"], 16) % 3)}


def false_header(block: int, **fields: str) -> f.Fault:
    """The header of a block with other fields."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b"eth_getBlockByNumber" not in body:
            return None
        status, headers, data = forward(body)
        replies = json.loads(data)
        for reply in replies if isinstance(replies, list) else [replies]:
            if isinstance(reply.get("result"), dict) and reply["result"]["number"] == hex(block):
                reply["result"] |= fields
        return status, headers, json.dumps(replies).encode()

    return fault
