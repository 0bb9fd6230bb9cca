"""Which rule a price source follows, found out by asking it: getters that tell its kind, then its own answer as the
proof.

Kinds and parameters are those of ``backtest.prices.oracles``. A source whose getters name a known rule, but whose
answer differs from that rule's, is ``sampled``: its price is read, never computed. Getter names are those of aave-capo
(``PriceCapAdapterBase.sol``, ``PriceCapAdapterStable.sol``, ``PendlePriceCapAdapter.sol``,
``misc-adapters/FixedPriceAdapter.sol``), of cl-synchronicity-price-adapter
(``CLSynchronicityPriceAdapterPegToBase.sol``), of morpho-blue-oracles (``MorphoChainlinkOracleV2.sol``) and of
Chainlink's ``AggregatorProxy.sol`` v0.6. Feeds that answer ``latestRoundData`` alone are read too, with every answer of
those that they name (compound-finance/comet ``ScalingPriceFeed.sol``, ``MultiplicativePriceFeed.sol`` and others).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from backtest.errors import FetchError
from backtest.prices.oracles import (
    CAPPED_FEED,
    CAPPED_RATIO,
    CROSS,
    DISCOUNTED,
    FEED,
    FIXED,
    QUOTIENT,
    SAMPLED,
    ZERO_ADDRESS,
    Reverts,
    Source,
    Unknown,
    answer,
)

if TYPE_CHECKING:
    from backtest.fetch.rpc import Rpc

# Getters of the values that a kind's rule needs, by their name in raw/oracle/State.
STATE_GETTERS: Mapping[str, Mapping[str, str]] = {
    CAPPED_RATIO: {
        "snapshot_ratio": "getSnapshotRatio()",
        "snapshot_timestamp": "getSnapshotTimestamp()",
        "max_growth_percent": "getMaxYearlyGrowthRatePercent()",
    },
    CAPPED_FEED: {"price_cap": "getPriceCap()"},
    FIXED: {"price": "price()"},
    DISCOUNTED: {"max_discount": "getMaxDiscountPerYear()"},
}
SILENT = "it answers nothing"
"""Reason of a source that is read although no getter of it gave anything."""
RATIO = "getRatio()"
ANSWER = "latestAnswer()"
ROUND = "latestRoundData()"

# Other sources that a source says it reads; any of them, when its rule is not known.
_FEED_GETTERS = (
    "BASE_TO_USD_AGGREGATOR()",
    "ASSET_TO_USD_AGGREGATOR()",
    "ASSET_TO_PEG()",
    "PEG_TO_BASE()",
    "BASE_TO_PEG()",
    "RATIO_PROVIDER()",
    "ETH_TO_USD()",
    "STETH_TO_ETH()",
    "BASE_FEED_1()",
    "BASE_FEED_2()",
    "QUOTE_FEED_1()",
    "QUOTE_FEED_2()",
    "underlyingPriceFeed()",
    "stETHtoETHPriceFeed()",
    "priceFeedA()",
    "priceFeedB()",
    "WBTCToBTCPriceFeed()",
    "BTCToUSDPriceFeed()",
    "feed()",
)
_VAULTS = ("BASE_VAULT()", "QUOTE_VAULT()")
_SCALE = "SCALE_FACTOR()"
_PROBES = (
    *_FEED_GETTERS,
    *_VAULTS,
    _SCALE,
    *(getter for getters in STATE_GETTERS.values() for getter in getters.values()),
    RATIO,
    ANSWER,
    "description()",
    "decimals()",
    "aggregator()",
    "phaseId()",
    "latestRound()",
    ROUND,
    "typeAndVersion()",
    "RATIO_DECIMALS()",
    "getMaxRatioGrowthPerSecondScaled()",
    "getLastGoodRatio()",
    "getPriceCapRatio()",
    "MATURITY()",
    "DECIMALS()",
    "DENOMINATOR()",
)

# Opcodes through which code sees storage, other contracts, the block or the caller.
_STATEFUL = frozenset(
    [0x31, 0x32, 0x33, 0x3A, 0x3B, 0x3C, 0x3F, *range(0x40, 0x4B), 0x54, 0x5C, 0xF0, 0xF1, 0xF2, 0xF4, 0xF5, 0xFA]
)


@cache
def selector(signature: str) -> str:
    """The 4-byte selector of a function, 0x hex."""
    from eth_utils.crypto import keccak

    return "0x" + keccak(text=signature)[:4].hex()


def word(data: bytes | None) -> int | None:
    """The first returned word as an unsigned integer; None where the call reverted or returned none."""
    return int.from_bytes(data[:32], "big") if data is not None and len(data) >= 32 else None


def signed(data: bytes | None) -> int | None:
    """The first returned word as a signed integer; None where the call reverted or returned none."""
    return int.from_bytes(data[:32], "big", signed=True) if data is not None and len(data) >= 32 else None


def address(data: bytes | None) -> str | None:
    """The returned address as lower-case 0x text; None where there is none or it is zero."""
    value = word(data)
    return f"0x{value:040x}" if value and value < 1 << 160 else None


def raw_address(text: str) -> bytes:
    """0x text to 20 bytes."""
    return bytes.fromhex(text[2:])


def calls_at(rpc: Rpc, calls: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
    """``answers`` where a block below 0 has no state: None."""
    found = iter(answers(rpc, [call for call in calls if call[2] >= 0]))
    return [next(found) if call[2] >= 0 else None for call in calls]


_COMPANY = 24
"""Calls that are asked again beside one witness: fewer than a batch, so that each batch has one."""


def answers(rpc: Rpc, calls: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
    """``rpc.eth_calls``, not believed at once where it gives nothing (reverted, or no bytes): those are asked again,
    in other company. With them goes a witness, a call that gave a value before: where a whole batch gives nothing, it
    tells whether the contracts or the node are silent.

    Raises:
        FetchError: a call gave a value one time and nothing the other. Blocks are final, so one was a lie.
    """
    found = rpc.eth_calls(calls)
    rpc.witness = next((call for call, data in zip(calls, found, strict=True) if data), rpc.witness)
    silent = [call for call, data in zip(calls, found, strict=True) if not data][::-1]
    witness = [] if rpc.witness is None else [rpc.witness]
    again: list[tuple[str, str, int]] = []
    for start in range(0, len(silent), _COMPANY):
        again += [*witness, *silent[start : start + _COMPANY]]
    for call, data in zip(again, rpc.eth_calls(again), strict=True):
        if bool(data) != (call in witness):
            to, asked, block = call
            raise FetchError(
                f"{rpc.name} answered eth_call of {to} ({asked[:10]}) at block {block} with"
                f" {'a value' if call in witness else 'nothing'}, and when asked again with"
                f" {'nothing' if call in witness else 'a value'}",
                "use another node: what this one says of calls cannot be relied on",
            )
    return found


NO_STATE = "use an archive node: prices and checks read the state of old blocks"


def lacks_state(error: FetchError) -> bool:
    """Whether a node refused because it has no state of an old block."""
    return "archive" in error.fix


def text(data: bytes | None) -> str:
    """A returned string (or bytes32 text), without what is not printable."""
    if data is None or len(data) < 32:
        return ""
    offset = int.from_bytes(data[:32], "big")
    body = data[64 : 64 + int.from_bytes(data[32:64], "big")] if offset == 32 else data[:32].rstrip(b"\0")
    return "".join(sign for sign in body.decode("utf-8", "replace") if sign.isprintable())


def is_constant(code: bytes) -> bool:
    """Whether contract code reads nothing but its call data, so that every answer is in the code for good.

    Walks the opcodes, without the metadata that solc appends; data taken for opcodes can only make the result false.
    """
    if len(code) > 2 and (tail := int.from_bytes(code[-2:], "big")) < len(code) - 2 and code[-2 - tail] >> 4 == 0xA:
        code = code[: -2 - tail]
    place = 0
    while place < len(code):
        if code[place] in _STATEFUL:
            return False
        place += code[place] - 0x5E if 0x60 <= code[place] <= 0x7F else 1
    return len(code) > 0


def _emits(code: bytes, event: str) -> bool:
    """Whether contract code holds the topic of an event."""
    from eth_utils.crypto import keccak

    return keccak(text=event) in code


def resolve(rpc: Rpc, wanted: Iterable[str], block: int) -> dict[str, Source]:
    """Every source in ``wanted`` and every source that one of them reads, by address, as of the end of ``block``.

    Raises:
        FetchError: the node does not answer for that block.
    """
    probed: dict[str, dict[str, bytes | None]] = {}
    todo = sorted(set(wanted) - {ZERO_ADDRESS})
    while todo:
        said = answers(rpc, [(source, selector(probe), block) for source in todo for probe in _PROBES])
        for place, source in enumerate(todo):
            probed[source] = dict(zip(_PROBES, said[place * len(_PROBES) : (place + 1) * len(_PROBES)], strict=True))
        found = {feed for source in todo for feed in _reads(probed[source])}
        found |= {inner for source in todo if (inner := address(probed[source]["aggregator()"]))}
        todo = sorted(found - probed.keys())
    codes = dict(
        zip(
            probed,
            (
                bytes.fromhex(code[2:])
                for code in rpc.call_many([("eth_getCode", [a, hex(block)]) for a in probed], str)
            ),
            strict=True,
        )
    )
    header = rpc.header(block)
    now = int(header.timestamp, 16) if header else 0
    sources: dict[str, Source] = {}
    for source in wanted:
        if source != ZERO_ADDRESS and not _classify(source, probed, codes, now, sources):
            sources[source] = Source(source, SAMPLED, "", None, {"reason": SILENT, "feeds": []})
    return sources


def _reads(probe: Mapping[str, bytes | None]) -> list[str]:
    """Addresses that a source names as its feeds, each once."""
    return list(dict.fromkeys(feed for getter in _FEED_GETTERS if (feed := address(probe[getter]))))


def _classify(
    source: str,
    probed: Mapping[str, Mapping[str, bytes | None]],
    codes: Mapping[str, bytes],
    now: int,
    sources: dict[str, Source],
) -> Source | None:
    """The source at an address, its feeds first, put into ``sources``; None where the address answers nothing."""
    if source in sources:
        return sources[source]
    probe = probed[source]
    tells = any(word(probe[name]) is not None for name in (ANSWER, ROUND, "latestRound()", "price()")) or address(
        probe["aggregator()"]
    )
    if not tells and not _reads(probe):
        return None
    feeds = [feed for feed in _reads(probe) if feed != source and _classify(feed, probed, codes, now, sources)]
    kind, parameters = _rule(source, probe, probed, codes[source], sources)
    if kind != SAMPLED and any(
        feed not in sources or sources[feed].kind == SAMPLED
        for feed in Source(source, kind, "", None, parameters).feeds
    ):
        kind, parameters = SAMPLED, {"reason": "reads a source of unknown rule"}
    made = Source(source, kind, text(probe["description()"]), word(probe["decimals()"]), parameters)
    if kind not in (SAMPLED, FEED) and not _agrees(made, probed, sources, now):
        made = Source(
            source, SAMPLED, made.description, made.decimals, {"reason": f"answers otherwise than kind {kind}"}
        )
    if made.kind == SAMPLED:
        proxy = {"proxy": True} if address(probe["aggregator()"]) and word(probe["phaseId()"]) else {}
        if not proxy and (inner := address(probe["aggregator()"])) and _classify(inner, probed, codes, now, sources):
            feeds.append(inner)
        made = Source(source, SAMPLED, made.description, made.decimals, {**made.parameters, **proxy, "feeds": feeds})
    sources[source] = made
    return made


def _rule(
    source: str,
    probe: Mapping[str, bytes | None],
    probed: Mapping[str, Mapping[str, bytes | None]],
    code: bytes,
    sources: Mapping[str, Source],
) -> tuple[str, dict[str, Any]]:
    """Kind and parameters that the getters suggest."""
    has = {name for name, data in probe.items() if word(data) is not None}
    base, asset = address(probe["BASE_TO_USD_AGGREGATOR()"]), address(probe["ASSET_TO_USD_AGGREGATOR()"])
    inner = address(probe["aggregator()"])
    if inner and word(probe["phaseId()"]):
        # SVR: what a reader sees depends on who reads and on time (chainlink, DualAggregator.sol _getLatestRound).
        if text(probed[inner]["typeAndVersion()"]).startswith("DualAggregator"):
            return SAMPLED, {"reason": "a dual aggregator shows its proxies different rounds"}
        return FEED, {"proxy": True}
    if {"MATURITY()", "getMaxDiscountPerYear()"} <= has and asset:
        return DISCOUNTED, {"feed": asset, "maturity": word(probe["MATURITY()"])}
    if (
        {"RATIO_PROVIDER()", "RATIO_DECIMALS()", RATIO, *STATE_GETTERS[CAPPED_RATIO].values()} <= has
        and base
        and "getLastGoodRatio()" not in has
    ):
        parameters = {
            "feed": base,
            "ratio_decimals": word(probe["RATIO_DECIMALS()"]),
            "scaled": "getMaxRatioGrowthPerSecondScaled()" in has,
        }
        provider = address(probe["RATIO_PROVIDER()"]) or ""
        if (
            provider in sources
            and sources[provider].kind == FEED
            and signed(probed[provider][ANSWER]) == signed(probe[RATIO])
        ):
            parameters["ratio_feed"] = provider
        return CAPPED_RATIO, parameters
    if "getPriceCap()" in has and asset and not base:
        return CAPPED_FEED, {"feed": asset}
    if {"ASSET_TO_PEG()", "PEG_TO_BASE()", "DECIMALS()", "DENOMINATOR()"} <= has:
        return CROSS, {
            "asset_to_peg": address(probe["ASSET_TO_PEG()"]),
            "peg_to_base": address(probe["PEG_TO_BASE()"]),
            "numerator": 10 ** (word(probe["DECIMALS()"]) or 0),
            "denominator": word(probe["DENOMINATOR()"]),
        }
    if {_SCALE, "price()", "BASE_FEED_1()", "BASE_FEED_2()", "QUOTE_FEED_1()", "QUOTE_FEED_2()"} <= has:
        if any(address(probe[vault]) for vault in _VAULTS):
            return SAMPLED, {"reason": "reads the exchange rate of a vault"}
        sides = {
            side.lower(): [feed for number in (1, 2) if (feed := address(probe[f"{side}_FEED_{number}()"]))]
            for side in ("BASE", "QUOTE")
        }
        return QUOTIENT, {**sides, "scale": str(word(probe[_SCALE]))}
    if _reads(probe):
        return SAMPLED, {"reason": "an adapter of unknown rule"}
    if "price()" in has and _emits(code, "FixedPriceUpdated(int256,int256)"):
        return FIXED, {}
    if is_constant(code) and signed(probe[_asked(probe)]) is not None:
        return FIXED, {"constant": signed(probe[_asked(probe)])}
    if "latestRound()" in has and not inner and _emits(code, "AnswerUpdated(int256,uint256,uint256)"):
        return FEED, {"proxy": False}
    return SAMPLED, {"reason": "no getter tells its rule"}


def _asked(probe: Mapping[str, bytes | None]) -> str:
    """The getter of a source's own answer: that of a feed, else that of an oracle of one price."""
    return ANSWER if signed(probe[ANSWER]) is not None else "price()"


def _agrees(
    source: Source, probed: Mapping[str, Mapping[str, bytes | None]], sources: Mapping[str, Source], now: int
) -> bool:
    """Whether the rule gives what the source answers, from what its inputs answer in the same block."""

    def value(owner: str, name: str) -> int:
        getter = {"answer": ANSWER, "ratio": RATIO}.get(name) or STATE_GETTERS[
            sources[owner].kind if owner in sources else source.kind
        ][name]
        found = signed(probed[owner][getter])
        if found is None:
            raise Unknown(owner, name)
        return found

    own = _asked(probed[source.address])
    try:
        computed, _ = answer(source, sources, value, now)
    except (Unknown, Reverts):
        return signed(probed[source.address][own]) is None
    return computed == signed(probed[source.address][own])
