"""The wordings of nodes and providers, as they send them, mean what the fetcher takes them to mean."""

from __future__ import annotations

import pytest

from backtest.fetch.dialects import asked_of, classify

ALCHEMY = (
    "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the"
    " response size, or you can request any block range with a cap of 10K logs in the response. Based on your"
    " parameters and the response size limit, this block range should work: [0x0, 0x133f]"
)
ALCHEMY_FREE = (
    "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters,"
    " this block range should work: [0x10, 0x19]."
)
ALCHEMY_SLOW = (
    "Query timeout exceeded. Consider reducing your block range. Based on your parameters and the response size limit,"
    " this block range should work: [0x5223c98, 0x5223e80]"
)
INFURA = "query returned more than 10000 results. Try with this block range [0xC2D7B8, 0xC2D9A9]."
CASES = [
    # provider, code, HTTP status, message, kind, blocks it would answer
    ("alchemy size", -32602, 200, ALCHEMY, "range", 0x1340),
    ("alchemy free", -32600, 400, ALCHEMY_FREE, "range", 10),
    ("alchemy slow", -32000, 400, ALCHEMY_SLOW, "range", 489),
    ("alchemy rate", 429, 429, "Your app has exceeded its compute units per second capacity.", "rate", None),
    ("infura results", -32005, 200, INFURA, "range", 0xC2D9A9 - 0xC2D7B8 + 1),
    ("infura range", -32602, 200, "range 1000000 exceeds limit of 10000", "range", 10_000),
    ("infura rate", -32005, 429, "daily request count exceeded, request rate limited", "rate", None),
    ("infura rate 200", -32005, 200, "project ID request rate exceeded", "rate", None),
    ("quicknode range", -32614, 413, "eth_getLogs is limited to a 10,000 range", "range", 10_000),
    ("quicknode rate", -32007, 429, "50/second request limit reached - reduce calls per second", "rate", None),
    ("ankr range", -32600, 200, "block range is too wide", "range", None),
    ("ankr large", -32062, 200, "Block range is too large", "range", None),
    ("ankr cap", -32602, 200, "block range is too wide (maximum 1024)", "range", 1024),
    ("drpc range", 35, 200, "ranges over 10000 blocks are not supported on freetier", "range", 10_000),
    ("drpc timeout", 30, 408, "Request timeout on the free tier, please upgrade your tier to paid", "timeout", None),
    ("reth results", -32602, 200, "query exceeds max results 20000, retry with the range 24383075-24383096", "range",
    22),
    ("reth range", -32602, 200, "query exceeds max block range 100000", "range", 100_000),
    ("geth bsc", -32000, 200, "exceed maximum block range: 5000", "range", 5000),
    ("geth addresses", -32000, 200, "exceed max addresses", "addresses", None),
    ("geth timeout", -32000, 200, "context deadline exceeded", "timeout", None),
    ("geth state", -32000, 200, "missing trie node 1f2e (path ) state 0x1f2e is not available", "archive", None),
    ("geth reexec", -32000, 200, "required historical state unavailable (reexec=128)", "archive", None),
    ("geth header", -32000, 200, "header not found", "missing", None),
    ("geth future", -32602, 200, "block range extends beyond current head block", "missing", None),
    ("geth batch", -32600, 200, "batch too large", "batch", None),
    ("no batches", -32600, 200, "batch requests are not supported", "batch", None),
    ("geth pruned", 4444, 200, "pruned history unavailable", "pruned", None),
    ("nethermind pruned", 4444, 200, "Pruned history unavailable", "pruned", None),
    ("nethermind results", -32005, 200, "Too many logs requested. Max logs per response is 20000.", "range", None),
    ("nethermind cancelled", -32016, 200, "eth_getLogs request was canceled due to enabled timeout.", "timeout", None),
    ("nethermind state", -32002, 200, "No state available for block 17000000", "archive", None),
    ("erigon old", -32000, 200, "old data not available due to pruning", "pruned", None),
    ("reth state", -32603, 200, "State at block #11052984 is pruned", "archive", None),
    ("reth proof", -32602, 200, "distance to target block exceeds maximum proof window", "archive", None),
    ("parity state", -32000, 200, "This request is not supported because your node is running with state pruning. Run"
    " with --pruning=archive.", "archive", None),
    ("geth path state", -32000, 200, "historical state 1f2e is not available", "archive", None),
    ("geth path scheme", -32000, 200, "historical state not available in path scheme yet", "archive", None),
    ("geth indexing", -32000, 200, "state histories haven't been fully indexed yet", "archive", None),
    ("infura state", -32000, 200, "project ID does not have access to archive state", "archive", None),
    ("publicnode state", -32602, 403, "Archive requests require a personal token. Get one at: https://x", "archive",
    None),
    ("quicknode state", -32052, 403, "Access to archival, debug, or trace data is not included in your current plan.",
    "archive", None),
    ("moonbeam state", -32603, 200, "State already discarded for 0xabc", "archive", None),
    ("kava state", -32000, 200, "Node state is pruned", "archive", None),
    ("cronos state", -32000, 200, "height 123 is not available, lowest height is 5000", "archive", None),
    ("cosmos state", -32000, 200, "failed to load state at height 5; version has either been pruned, or is for a future"
    " block height", "archive", None),
    ("optimism old", -32000, 200, "no historical RPC is available for this historical (pre-bedrock) execution request",
    "archive", None),
    ("sei state", -32000, 200, "state does not maintain archive data", "archive", None),
    ("geth path pruned", -32000, 200, "metadata is not found, 0x14a5f1c", "archive", None),
    ("geth layer", -32000, 200, "layer stale", "transient", None),
    ("nethermind trie", -32603, 200, "Internal error Nethermind.Trie.MissingTrieNodeException: Node A: P:2 H:0x992e is"
    " missing from the DB", "archive", None),
    ("nethermind debug", -32603, 200, "Internal error System.Reflection.TargetInvocationException: Exception has been"
    " thrown by the target of an invocation. ---> Nethermind.Trie.MissingTrieNodeException: Node 0x6716", "archive",
    None),
    ("nethermind flat", -32603, 200, "Internal error Nethermind.State.StateUnavailableException", "archive", None),
    ("nethermind storage", -32000, 200, "missing trie node (path ) state 0xd7f8974f", "archive", None),
    ("reth no state", -32603, 200, "no state found for block number 5", "archive", None),
    ("anvil old", -32602, 200, "BlockOutOfRangeError: block height is 253 but requested was 16", "archive", None),
    ("anvil fork", -32603, 200, "failed to get account for 0xab: server returned an error response: error code -32000:"
    " missing trie node 1f2e (path )", "archive", None),
    ("arbitrum state", -32000, 200, "state recreation l2 gas depth limit exceeded", "archive", None),
    ("somnia state", -1, 200, "unable to load historical state", "archive", None),
    ("too old", -32000, 200, "Historical data unavailable: block is too old", "archive", None),
    ("archival plan", -32000, 200, "archival data requires a paid plan", "archive", None),
    ("erigon crash", -32000, 200, "method handler crashed", "transient", None),
    ("erigon busy", -32000, 200, "Unable to complete request at this time.", "transient", None),
    ("erigon reverts", -32000, 200, "execution reverted", "revert", None),
    ("erigon pruned", -32000, 200, "history has been pruned for this block", "pruned", None),
    ("earliest", -32000, 200, "block 5 has been pruned; earliest available is 123", "pruned", None),
    ("chainstack rate", -32005, 200, "You've exceeded the RPS limit available on the current plan.", "rate", None),
    ("drpc plan", 35, 400, "chain is not available on free plan, please upgrade to paid plan", "denied", None),
    ("quicknode credits", -32012, 200, "credits limited to 6000/sec", "rate", None),
    ("batch count", -32600, 200, "Number of requests in batch exceeds limit", "batch", None),
    ("besu state", -32000, 200, "World state unavailable", "archive", None),
    ("besu range", -32005, 200, "Requested range exceeds maximum RPC range limit", "range", None),
    ("cloudflare", -32047, 200, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800",
    "range", 800),
    ("chainstack range", -32005, 200, "Block range limit exceeded. See more details at the documentation of limits",
    "range", None),
    ("chainstack archive", -32002, 403, "Archive, Debug and Trace requests are not available on your current plan.",
    "archive", None),
    ("blockpi", -32602, 200, "eth_getLogs is limited to 1024 block range. Please check the parameter requirements",
    "range", 1024),
    ("1rpc", -32602, 200, "eth_getLogs is limited to 0 - 10000 blocks range", "range", 10_000),
    ("1rpc size", -32000, 200, "response size should not greater than 10000000 bytes", "range", None),
    ("publicnode", -32701, 200, "exceed maximum block range: 50000", "range", 50_000),
    ("publicnode pruned", -32701, 200,
    "History has been pruned for this block. To remove restrictions, order a dedicated full node", "pruned", None),
    ("avalanche", -32000, 200, "requested too many blocks from 0 to 5000000, maximum is set to 1024", "range", 1024),
    ("thirdweb", -32005, 200, "Maximum allowed number of requested blocks is 3500", "range", 3500),
    ("coinbase", -32602, 200, "please limit the query to at most 1,000 blocks", "range", 1000),
    ("merkle", -32603, 200, "eth_getLogs range is too large, max is 1k blocks", "range", 1000),
    ("nitro", -32000, 200, "logs matched by query exceeds limit of 10000", "range", None),
    ("proxyd size", -32020, 200, "backend response too large", "range", None),
    ("proxyd rate", -32016, 429, "over rate limit", "rate", None),
    ("proxyd down", -32011, 503, "no backend is currently healthy to serve traffic", "transient", None),
    ("http 413", None, 413, "Request Entity Too Large", "range", None),
    ("http 413 bare", None, 413, "", "range", None),
    ("http 502", None, 502, "<html>Bad Gateway</html>", "transient", None),
    ("http 500", None, 500, "", "transient", None),
    ("http 504", None, 504, "", "timeout", None),
    ("http 401", None, 401, "", "denied", None),
    ("internal", -32603, 200, "Internal error", "transient", None),
    ("code only limit", -32005, 200, "limit exceeded", "limit", None),
    ("code only rate", -32029, 200, "exceeded", "rate", None),
    ("revert", 3, 200, "execution reverted: 51", "revert", None),
    ("unknown method", -32601, 200, "the method eth_getHeaderByNumber does not exist/is not available",
    "unsupported", None),
    ("unknown", -32000, 200, "something nobody has said before", "other", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status", "message", "kind", "width"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_wording(code: int | None, status: int, message: str, kind: str, width: int | None) -> None:
    complaint = classify(message, code, status)
    assert (complaint.kind, complaint.width) == (kind, width)


@pytest.mark.parametrize("message", [
    "old data not available due to pruning", "history has been pruned for this block", "Pruned history unavailable",
    "Archive requests require a personal token", "State at block #3 is pruned",
])  # fmt: skip
def test_what_was_asked_for_tells_whether_state_or_logs_are_gone(message: str) -> None:
    complaint = classify(message, -32000, 200)
    assert asked_of(complaint, "eth_call").kind == "archive"
    assert asked_of(complaint, "eth_getStorageAt").kind == "archive"
    assert asked_of(complaint, "eth_getLogs").kind == "pruned"


def test_other_complaints_are_the_same_of_every_method() -> None:
    assert asked_of(classify("Too Many Requests", 429, 429), "eth_call").kind == "rate"
