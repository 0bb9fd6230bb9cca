"""What nodes and providers mean by their errors: one table of the wordings in use, collected from their documentation,
their source and public bug reports. JSON-RPC codes are of little help: -32005 means "too many results" at one provider,
"too many requests" at another, so the wording decides and the code only where the wording says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from backtest.foreign import shown

Kind = Literal[
    "range",  # the block range, the number of results or the reply is too large: ask for less
    "addresses",  # too many addresses in one filter
    "batch",  # too many calls in one batch
    "rate",  # too many requests: wait
    "limit",  # some limit; for eth_getLogs of several blocks taken as "range", else as "rate"
    "timeout",  # the node gave up or did not answer in time
    "transient",  # try again
    "archive",  # no state of that block
    "pruned",  # no blocks, receipts or logs of that age
    "missing",  # unknown block
    "revert",  # the call reverted
    "unsupported",  # no such method or tag
    "denied",  # key, plan or permission
    "other",
]

# First match wins. Each row: kind, wording (case-insensitive), who says so.
_WORDINGS: tuple[tuple[Kind, str, str], ...] = (
    (
        "revert",
        r"\breverte?d?\b|vm execution error|invalid opcode|out of gas|stack (under|over)flow|invalid jump",
        "all",
    ),
    # Before what speaks of plans: "exceeded the RPS limit available on the current plan" passes.
    ("rate", r"\brps limit|limit available on the current plan", "Chainstack"),
    (
        "archive",
        (
            r"state pruning|state (at|of|for) .{0,80}pruned|node state is pruned|state already discarded"
            r"|state .{0,40}not (found|been fully indexed)|state histories"
            r"|archiv(e|al).{0,40}(state|personal token|not included)"
        ),
        "Reth, Parity, OpenEthereum, Moonbeam, Kava, Geth, Infura, PublicNode, QuickNode",
    ),
    (
        "archive",
        (
            r"no (historical )?(state|rpc) (data|found|is available|available)|historical backend|failed to load state"
            r"|version has either been pruned|lowest height is|does not maintain archive data|unexpected state root"
        ),
        "Nethermind, Optimism, Cosmos chains, op-geth",
    ),
    (
        "addresses",
        (
            r"(too many|max(imum)? (number of )?|less( number of)?|limit.{0,20})"
            r" addresses|addresses.{0,30}(exceed|limit)|exceed max addresses"
        ),
        "Geth, BSC",
    ),
    (
        "batch",
        (
            r"batch (size|limit|request).{0,40}(large|exceed|limit|max)|batch too large|too many (requests|calls) in"
            r" (the )?batch"
        ),
        "Geth, proxyd",
    ),
    ("batch", r"batch.{0,30}(not |un)(supported|allowed)|requests (in|per) batch", "nodes without batches"),
    (
        "pruned",
        (
            r"history (has been|is|was) pruned|history unavailable|(not |un)available due to pruning|below the"
            r" pruning|receipts? .{0,40}pruned"
        ),
        "EIP-4444",
    ),
    (
        "pruned",
        (r"(block|history|logs?|data) .{0,40}pruned|block #?\d+ (is )?(not available|unavailable)|earliest available"),
        "Nethermind, Erigon, public nodes",
    ),
    (
        "archive",
        (
            r"missing trie node|state (is )?(not|un)\s?available|state .{0,60}(not|un)\s?available|historical"
            r" state|world state unavailable"
        ),
        "Geth, Besu",
    ),
    (
        "archive",
        (
            r"no state available|state .{0,40}pruned|archive (nodes?|requests?|data|mode|depth|state)|requires? (an?"
            r" )?archive|archive,"
        ),
        "Nethermind, Erigon, Chainstack, Infura",
    ),
    (
        "archive",
        (
            r"metadata is not found|missingtrienode|missing from the db|stateunavailable|blockoutofrange"
            r"|state recreation .{0,30}limit"
        ),
        "Geth (path scheme), Nethermind (in the data of an internal error), Anvil, Arbitrum",
    ),
    (
        "archive",
        r"(history|historical data) (is )?(not |un)available|archival data|(block|height) is too old|trie node missing",
        "public nodes",
    ),
    ("archive", r"old data not available|distance to target block exceeds|proof window", "Erigon, Reth"),
    (
        "missing",
        (
            r"header (for hash )?not found|(unknown|unfinalized|invalid|no such) block|block (.{0,40} )?(not found|does"
            r" not exist)"
        ),
        "Geth, Erigon",
    ),
    (
        "missing",
        r"beyond (current )?head|after last accepted|specified .{0,80}cannot be found|resource not found|future block",
        "Geth, Avalanche, EIP-1474",
    ),
    (
        "range",
        r"this block range should work|try with this block range|retry with the range",
        "Alchemy, Infura, zkSync, Reth",
    ),
    (
        "range",
        r"log response size exceeded|response (is too large|too large|too big|size)|(payload|entity) too large",
        "Alchemy, 1RPC, proxyd, HTTP 413",
    ),
    (
        "range",
        (
            r"(returned|exceeds?|exceeded|too many|more than).{0,40}(results|logs|events)|logs matched by query"
            r" exceeds|max (results|logs)"
        ),
        "Infura, Nethermind, Nitro",
    ),
    (
        "range",
        (
            r"(block|blocks|eth_getlogs).{0,30}"
            r" range|range.{0,60}(limit|large|wide|big|exceed|max|over|allowed)|ranges? over"
        ),
        "QuickNode, Ankr, dRPC, BlockPI, Cloudflare",
    ),
    (
        "range",
        (
            r"too many blocks|(at most|more than|up to|limit).{0,20} blocks|blocks distance|number of requested"
            r" blocks|must be smaller than size"
        ),
        "Avalanche, Coinbase, Harmony",
    ),
    ("denied", r"not available on (the )?free plan", "dRPC"),
    (
        "timeout",
        r"time(d)?[ -]?out|deadline exceeded|took too long|canceled due to|cancelled|request was aborted",
        "Geth, Nethermind, dRPC",
    ),
    (
        "rate",
        (
            r"rate.{0,12}limit|too many requests|request(s)?(/| per )second|request (count|limit|rate)|compute"
            r" units|throughput|capacity exceeded"
        ),
        "Alchemy, Infura, QuickNode",
    ),
    ("rate", r"over rate|slow down|throttl|quota|try again (later|in)|\b429\b|credits", "proxyd, public nodes"),
    (
        "transient",
        (
            r"no (healthy )?backend|unable to complete request|layer stale|method handler crashed"
            r"|no backend is currently healthy|internal (server )?error|temporar|bad"
            r" gateway|service unavailable|overloaded|busy"
        ),
        "proxyd, Geth, Erigon",
    ),
    (
        "transient",
        r"connection (reset|refused|closed)|upstream|still syncing|not (yet )?ready|no available (node|upstream)",
        "dRPC, eRPC",
    ),
    (
        "unsupported",
        (
            r"method .{0,60}(not|n't|does not).{0,20}(found|exist|support|available|allowed|whitelist)|unsupported"
            r" method|unknown method"
        ),
        "all",
    ),
    (
        "denied",
        (
            r"unauthori[sz]ed|forbidden|api.?key|must be authenticated|authenticate|invalid (project|token)|current"
            r" plan|not allowed|permission"
        ),
        "all",
    ),
    ("limit", r"limit exceeded|exceed", "EIP-1474"),
)
_TABLE = tuple((kind, re.compile(wording, re.IGNORECASE)) for kind, wording, _ in _WORDINGS)

_BY_CODE: dict[int, Kind] = {
    -32001: "missing",
    -32002: "transient",
    -32005: "limit",
    -32016: "rate",
    -32029: "rate",
    -32062: "range",
    -32601: "unsupported",
    -32603: "transient",
    -32614: "range",
    3: "revert",
    4: "timeout",
    30: "timeout",
    35: "range",
    429: "rate",
    4444: "pruned",
}
_BY_STATUS: dict[int, Kind] = {
    401: "denied",
    402: "denied",
    403: "denied",
    404: "denied",
    408: "timeout",
    413: "range",
    429: "rate",
    504: "timeout",
    524: "timeout",
}

_HEX_PAIR = re.compile(r"\[\s*(0x[0-9a-f]+)\s*,\s*(0x[0-9a-f]+)\s*\]", re.IGNORECASE)
_PAIR = re.compile(r"range[: ]+\[?(\d+)\s*(?:-|,|to)\s*(\d+)", re.IGNORECASE)
_NUMBER = r"([\d][\d,._]*)\s*(k)?\b"
_CAPS = tuple(
    re.compile(pattern.replace("#", _NUMBER), re.IGNORECASE)
    for pattern in (
        r"up to an? # ?block",
        r"limited to (?:an? |0 ?- ?)?# ?(?:blocks?|range)",
        r"currently limited to #",
        r"ranges? over #",
        r"max(?:imum)?(?: allowed)?(?: block)?(?: range)?(?: is|:)? ?(?:set to )?#",
        r"requested blocks is #",
        r"range \d+ (?:exceeds limit of|is bigger than range limit) #",
        r"block range (?:exceeds|greater than) #",
        r"at most # ?blocks",
        r"blocks distance: #",
        r"range allowed for your plan \(\d+ > #\)",
        r"smaller than size #",
        r"allowed is #",
    )
)


STATE_METHODS = frozenset(("eth_call", "eth_getCode", "eth_getStorageAt", "eth_getBalance", "eth_getProof"))
"""Requests that read the state of a block."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A node's error, understood. ``width`` is the number of blocks it says it would answer; ``firm`` where that is a
    fixed limit on the range rather than what fitted this time."""

    kind: Kind
    text: str
    width: int | None = None
    firm: bool = False


def classify(message: str, code: int | None = None, status: int = 200) -> Complaint:
    """What an error message, its JSON-RPC code and the HTTP status mean together."""
    text = shown(" ".join(message.split()), 400)
    kind: Kind | None = None
    if status == 429:
        kind = "rate"
    if kind is None:
        kind = next((name for name, wording in _TABLE if wording.search(text)), None)
    if kind in (None, "limit") and code in _BY_CODE:
        kind = _BY_CODE[code]
    if kind is None:
        kind = _BY_STATUS.get(status) or ("transient" if status >= 500 else "other")
    width, firm = _suggestion(text) if kind in ("range", "limit") else (None, False)
    return Complaint(kind, text, width, firm)


def asked_of(complaint: Complaint, method: str) -> Complaint:
    """The complaint about this method. Nodes say the same of state and of logs that they no longer have ("old data not
    available due to pruning", "history has been pruned for this block"); what was asked for tells which is meant.
    """
    if complaint.kind not in ("archive", "pruned"):
        return complaint
    return replace(complaint, kind="archive" if method in STATE_METHODS else "pruned")


def _suggestion(text: str) -> tuple[int | None, bool]:
    for pattern, base in ((_HEX_PAIR, 16), (_PAIR, 10)):
        match = pattern.search(text)
        if match and int(match[2], base) >= int(match[1], base):
            return int(match[2], base) - int(match[1], base) + 1, False
    for pattern in _CAPS:
        match = pattern.search(text)
        if match:
            width = int(re.sub(r"[,._]", "", match[1])) * (1000 if match[2] else 1)
            if width:
                return width, True
    return None, False
