"""Twin chains: one script of users' transactions on two nodes with the real contracts, under history's parameters and
under changed ones.

The script (``twin_script``) is fixed before anything is mined: both chains get the same user transactions, byte for
byte, in the same blocks
at the same times. A chain differs by its ``Change`` alone: governance sets other values in blocks that the script keeps
free for it (slots), where the twin under history's parameters mines something harmless. On each chain a bot liquidates
right after every price report, in the same block (``contracts/Bot.sol``); it decides on the chain, from what the
contracts say and do.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from eth_utils.crypto import keccak

from tests.chain.aave import EMODES, LISTINGS, TREASURY, deploy_v30, deploy_v36
from tests.chain.contracts import own
from tests.chain.deployment import Deployment
from tests.chain.node import GAS, Contract, Node, Transaction, revert_name
from tests.chain.twin_script import START, UMBRELLA, Block, Key, Script, Values

BOT_GAS = 100 * GAS


@dataclass(frozen=True, slots=True)
class Change:
    """What governance sets at the script's slots, one after the other: values in basis points by (symbol or e-mode
    category, parameter).

    They hold against what the script's own governance sets later.
    """

    name: str
    steps: tuple[Mapping[Key, int], ...] = ()


HISTORY = Change("history")


@dataclass(frozen=True, slots=True)
class Sent:
    """One user transaction as it was mined. ``error`` is "" where it succeeded; ``fails``: the script means it to fail.

    ``silent``: it left no log, since it failed or changed nothing. No lake can know of it.
    """

    block: int
    kind: str
    who: str
    fails: bool
    error: str
    silent: bool


@dataclass(slots=True)
class Twin:
    """A chain after the script. ``accounts`` are all that can hold anything but the bot; ``slots`` the blocks kept free
    for changes.
    """

    deployment: Deployment
    version: str
    accounts: list[str]
    names: dict[str, str]
    bot: str
    sent: list[Sent] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    last_block: int = 0


class _Terms:
    """Parameters in force on one chain: history's, with a change's over them."""

    def __init__(self) -> None:
        self.history: Values = {}
        self.changed: Values = {}
        for listing in LISTINGS:
            self.history[listing.symbol, "ltv"] = listing.ltv
            self.history[listing.symbol, "liquidation_threshold"] = listing.threshold
            self.history[listing.symbol, "liquidation_bonus"] = listing.bonus
            self.history[listing.symbol, "liquidation_protocol_fee"] = listing.protocol_fee
        for category, ltv, threshold, bonus, *_ in EMODES:
            self.history |= {
                (category, "ltv"): ltv,
                (category, "liquidation_threshold"): threshold,
                (category, "liquidation_bonus"): bonus,
            }

    def transactions(self, market: Deployment, keys: Mapping[Key, int]) -> list[Transaction]:
        """What governance sends so that these keys have the values in force: the configurator sets those of one place
        together.
        """
        values = self.history | self.changed
        sent = []
        for place in dict.fromkeys(place for place, parameter in keys if parameter != "liquidation_protocol_fee"):
            three = [values[place, parameter] for parameter in ("ltv", "liquidation_threshold", "liquidation_bonus")]
            if isinstance(place, str):
                sent.append(market.configure_collateral(place, *three))
            else:
                label = next(label for category, *_, label, _ in EMODES if category == place)
                sent.append(market.set_emode_category(place, *three, label))
        fees = [
            place for place, parameter in keys if parameter == "liquidation_protocol_fee" and isinstance(place, str)
        ]
        return sent + [market.set_protocol_fee(place, values[place, "liquidation_protocol_fee"]) for place in fees]


def play(
    node: Node, version: str, change: Change = HISTORY, *, seed: int = 7, wild: int = 0, without: Container[int] = (),
    story: type[Script] = Script, receive_a_tokens: bool = False,
) -> Twin:  # fmt: skip
    """The whole script on a fresh node, started with ``Node(timestamp=START)``, under a change.

    Args:
        seed, wild: see ``Script``.
        story: what happens. receive_a_tokens: how the bot settles.
        without: places in ``Twin.sent`` of transactions that are not sent: those that were silent on the other chain.
    """
    market = deploy_v36(node) if version == "3.6" else deploy_v30(node)
    reporter = node.deploy(own("Bot.sol")["Reporter"])
    script = story(market, flash=node.deploy(own("FlashBorrower.sol")["FlashBorrower"]).address, seed=seed, wild=wild)
    ascending = sorted(script.names.values(), key=lambda account: int(account, 16))
    bot = _bot(market, ascending, short=script.short, receive=receive_a_tokens)
    for reserve in market.reserves.values():
        node.send(
            reserve.asset.transaction(
                "mintMany", [*script.names.values(), UMBRELLA, script.flash, bot.address], 10**9 * reserve.unit
            )
        )
    accounts = [*script.names.values(), UMBRELLA, TREASURY, script.flash]
    twin = Twin(market, version, accounts, {account: name for name, account in script.names.items()}, bot.address)
    terms, changes, start = _Terms(), list(change.steps), node.timestamp() + 60
    for block in script.blocks:
        at = start + block.seconds
        if block.slot:
            step: Mapping[Key, int] = changes.pop(0) if changes else {}
            terms.changed |= step
            _govern(node, terms.transactions(market, step) or [_harmless(market)], at)
            twin.slots.append(node.block_number)
        elif block.values or block.governance:
            terms.history |= block.values
            _govern(node, [*terms.transactions(market, block.values), *block.governance], at)
        else:
            _mine(twin, block, reporter, bot, at, without)
    if changes:
        raise RuntimeError(f"change {change.name} has more steps than the script has slots")
    twin.last_block = node.block_number
    return twin


def _mine(twin: Twin, block: Block, reporter: Contract, bot: Contract, at: int, without: Container[int]) -> None:
    """One block of users: some, the report and the bot right behind it, the others."""
    market, node, place = twin.deployment, twin.deployment.node, len(twin.sent)
    steps = [*block.before, *block.after]
    out = [place + i in without for i in range(len(steps))]
    between: list[Transaction] = []
    if block.report:
        feeds = [market.reserves[symbol].feed.aggregator.address for symbol in block.report]
        between = [
            reporter.transaction("report", feeds, list(block.report.values())),
            bot.transaction("run") | {"gas": hex(BOT_GAS)},
        ]
    cut = out[: len(block.before)].count(False)
    transactions = [step.transaction for step, left_out in zip(steps, out, strict=True) if not left_out]
    transactions = transactions[:cut] + between + transactions[cut:]
    receipts = node.send_block(transactions or [_harmless(market)], timestamp=at)
    for receipt in receipts[cut : cut + len(between)]:
        if receipt["status"] != "0x1":
            raise RuntimeError(
                f"block {receipt['blockNumber']}: report or bot failed: {revert_name(node, receipt['transactionHash'])}"
            )
    if between:
        twin.reports.append(node.block_number)
    users = iter(receipts[:cut] + receipts[cut + len(between) :])
    for step, left_out in zip(steps, out, strict=True):
        error, silent = "left out", True
        if not left_out:
            receipt = next(users)
            error = "" if receipt["status"] == "0x1" else revert_name(node, receipt["transactionHash"]) or "reverted"
            silent = not receipt["logs"]
        twin.sent.append(Sent(node.block_number, step.kind, step.who, step.fails, error, silent))


def _harmless(market: Deployment) -> Transaction:
    """A transaction that no market notices, for a block that would be empty."""
    return market.reserves["WETH"].asset.transaction("approve", market.node.admin, 0)


def _bot(market: Deployment, accounts: list[str], *, short: bool, receive: bool) -> Contract:
    reserves = list(market.reserves.values())
    return market.node.deploy(
        own("Bot.sol")["Bot"],
        market.pool.address,
        market.oracle.address,
        market.version == "3.6",
        short,
        receive,
        [reserve.asset.address for reserve in reserves],
        [reserve.a_token.address for reserve in reserves],
        [reserve.debt_token.address for reserve in reserves],
        [reserve.unit for reserve in reserves],
        accounts,
    )


def _govern(node: Node, transactions: list[Transaction], at: int) -> None:
    for transaction, receipt in zip(transactions, node.send_block(transactions, timestamp=at), strict=True):
        if receipt["status"] != "0x1":
            raise RuntimeError(f"block {receipt['blockNumber']}: governance failed: {node.revert_reason(transaction)}")


# -- what a chain says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Liquidated:
    """One LiquidationCall: account in lower case, symbols, native amounts; ``fee`` is what the treasury got of the
    collateral.
    """

    block: int
    account: str
    debt: str
    collateral: str
    repaid: int
    seized: int
    fee: int


@dataclass(frozen=True, slots=True)
class Lost:
    """One DeficitCreated (3.6)."""

    block: int
    account: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class Held:
    """What an account has: scaled units by symbol (no zeros), symbols of collateral in use, e-mode category."""

    collateral: dict[str, int]
    debt: dict[str, int]
    enabled: frozenset[str]
    emode: int


_NONE = Held({}, {}, frozenset(), 0)


@dataclass(frozen=True, slots=True)
class ReserveAt:
    """The pool's stored numbers of one reserve: rays, seconds, scaled units (accrued to treasury), native units
    (liquidity, deficit).
    """

    supply_index: int
    borrow_index: int
    supply_rate: int
    borrow_rate: int
    updated: int
    accrued_to_treasury: int
    liquidity: int
    deficit: int


def topic(signature: str) -> str:
    return "0x" + keccak(text=signature).hex()


LIQUIDATION = topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)")
DEFICIT = topic("DeficitCreated(address,address,uint256)")
TRANSFER = topic("Transfer(address,address,uint256)")


def losses(twin: Twin) -> tuple[list[Liquidated], list[Lost]]:
    """Every liquidation and deficit of the chain, in order, from its logs."""
    market = twin.deployment
    symbols = {reserve.asset.address.lower(): symbol for symbol, reserve in market.reserves.items()}
    tokens = {reserve.a_token.address.lower(): symbol for symbol, reserve in market.reserves.items()}
    treasury = _word(TREASURY)
    calls: list[Liquidated] = []
    lost: list[Lost] = []
    paid: dict[tuple[str, str], int] = {}
    # A fee moves after the debt and before the LiquidationCall that it belongs to.
    for log in market.node.get_logs(topics=[[LIQUIDATION, DEFICIT, TRANSFER]]):
        kind, block = log["topics"][0], int(log["blockNumber"], 16)
        where = log["address"].lower()
        if kind == TRANSFER:
            if where in tokens and log["topics"][2] == treasury:
                paid[_address(log["topics"][1]), tokens[where]] = int(log["data"], 16)
        elif kind == DEFICIT:
            lost.append(
                Lost(block, _address(log["topics"][1]), symbols[_address(log["topics"][2])], int(log["data"], 16))
            )
        else:
            collateral, debt, account = (_address(word) for word in log["topics"][1:])
            repaid, seized = (int(log["data"][2 + 64 * i : 66 + 64 * i], 16) for i in range(2))
            fee = paid.pop((account, symbols[collateral]), 0)
            calls.append(Liquidated(block, account, symbols[debt], symbols[collateral], repaid, seized, fee))
    return calls, lost


def _word(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def _address(word: str) -> str:
    return "0x" + word[-40:].lower()


def holdings(twin: Twin, block: int | str = "latest") -> dict[str, Held]:
    """Every account that holds anything or has set anything, by lower-case address; the bot too."""
    market, accounts = twin.deployment, [*twin.accounts, twin.bot]
    symbols = list(market.reserves)
    rows = zip(
        accounts,
        market.scaled_balances(accounts, block),
        market.user_configuration(accounts, block),
        market.user_emode(accounts, block),
        strict=True,
    )
    found = {}
    for account, balances, bits, emode in rows:
        supplied = {s: b for s, b in zip(symbols, balances, strict=False) if b}
        debts = {s: b for s, b in zip(symbols, balances[len(symbols) :], strict=True) if b}
        held = Held(supplied, debts, frozenset(s for i, s in enumerate(symbols) if bits >> (2 * i + 1) & 1), emode)
        if held != _NONE:
            found[account.lower()] = held
    return found


def reserves(twin: Twin, block: int | str = "latest") -> dict[str, ReserveAt]:
    """Every reserve by symbol."""
    market = twin.deployment
    found = {}
    for symbol, reserve in market.reserves.items():
        asset = reserve.asset.address
        numbers: Any = market.pool.call("getReserveData", asset, block=block)
        if market.version == "3.0":
            liquidity, deficit = reserve.asset.call("balanceOf", reserve.a_token.address, block=block), 0
        else:
            liquidity = market.pool.call("getVirtualUnderlyingBalance", asset, block=block)
            deficit = market.pool.call("getReserveDeficit", asset, block=block)
        supply_index, supply_rate, borrow_index, borrow_rate = numbers[1:5]
        found[symbol] = ReserveAt(
            supply_index, borrow_index, supply_rate, borrow_rate, numbers[6], numbers[12], liquidity, deficit
        )
    return found


def refused(a: Twin, b: Twin) -> list[Sent]:
    """User transactions that did something on A and failed on B."""
    return [mine for mine, theirs in zip(a.sent, b.sent, strict=True) if not mine.silent and theirs.error]


def unknown(a: Twin, b: Twin) -> list[Sent]:
    """User transactions that did something on B and nothing on A: no lake of A knows of them."""
    return [theirs for mine, theirs in zip(a.sent, b.sent, strict=True) if mine.silent and not theirs.silent]


__all__ = [
    "HISTORY",
    "START",
    "Change",
    "Held",
    "Liquidated",
    "Lost",
    "ReserveAt",
    "Sent",
    "Twin",
    "holdings",
    "losses",
    "play",
    "refused",
    "reserves",
    "unknown",
]
