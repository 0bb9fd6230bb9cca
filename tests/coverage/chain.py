"""A world played on a local node with the contracts of Aave V3.6, under history's parameters or with one of them
changed; and what happened, from the chain's own logs and views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chain.aave import deploy_v36
from tests.chain.contracts import artifacts_v36
from tests.chain.deployment import Deployment
from tests.chain.node import GENESIS_TIME, Node, Transaction
from tests.chain.twin import Twin, losses
from tests.coverage.bots import Bot, Seen
from tests.coverage.world import CHANGE_AT, DECIMALS, PRESENT, START_PRICES, STEP, STEPS, World

START = GENESIS_TIME - 86_400
LENDER = "0x00000000000000000000000000000000000001e7"
LOOKS = (12, 72, 312, 732)
"""Seconds after each report at which bots look."""
MEASURES = ("repaid", "bad_debt", "borrower_loss", "liquidations")
_CLOSE_FACTOR = "61{:04x}"
"""PUSH2 of the constant."""


@dataclass(slots=True)
class Market:
    """A node with the market as every world finds it."""

    node: Node
    deployment: Deployment
    library: str
    code: str
    snapshot: str = field(default="")

    def fresh(self) -> None:
        """Back to the market in which nothing happened."""
        if self.snapshot:
            self.node.revert(self.snapshot)
        self.snapshot = self.node.snapshot()


@dataclass(frozen=True, slots=True)
class Happened:
    """What the chain says at the end, base units by measure; the block of the change, the last one, failed calls."""

    totals: dict[str, int]
    change_block: int
    last_block: int
    failed: int


def opened(node: Node) -> Market:
    """The market on a fresh node started at ``START``."""
    deployment = deploy_v36(node)
    node.send(deployment.configure_collateral("WETH", PRESENT["ltv"], 8250, 10500))
    library, code = _library(node)
    return Market(node, deployment, library, code)


def _library(node: Node) -> tuple[str, str]:
    """Where LiquidationLogic lies, and its code. DEFAULT_LIQUIDATION_CLOSE_FACTOR is a constant in it: the first of
    three times that it pushes 5,000 (the others are percentMul's half).
    """
    length = len(artifacts_v36()["LiquidationLogic"].bytecode) // 2
    for number in range(1, node.block_number + 1):
        for receipt in node.rpc("eth_getBlockReceipts", hex(number)):
            if where := receipt.get("contractAddress"):
                code = str(node.rpc("eth_getCode", where, "latest"))
                if 0 <= length - len(code) // 2 < 200 and code.count(_CLOSE_FACTOR.format(5000)) == 3:
                    return str(where), code
    raise RuntimeError("no library with the close factor")


def _bots(world: World, change: tuple[str, int] | None) -> list[Bot]:
    bonus = change[1] if change and change[0] == "liquidation_bonus" else PRESENT["liquidation_bonus"]
    return [
        Bot(kind, world.seed, place, f"0x{0xB07000 + place:040x}", (bonus - 10_000) / 10_000)
        for place, kind in enumerate(world.bots)
    ]


def play(market: Market, world: World, change: tuple[str, int] | None = None) -> Happened:
    """The world from its first block on; ``change``: the parameter of WETH and its value from ``CHANGE_AT`` on."""
    market.fresh()
    node, deployment = market.node, market.deployment
    bots = _bots(world, change)
    holders = [*world.people, LENDER, *(bot.address for bot in bots)]
    node.send_block(
        [
            deployment.reserves[symbol].asset.transaction("mintMany", holders, 10**9 * 10**decimals)
            for symbol, decimals in DECIMALS.items()
        ]
        + [deployment.supply(LENDER, symbol, 10**7 * 10 ** DECIMALS[symbol]) for symbol in ("USDC", "DAI")]
    )
    begins, changed, failed = node.timestamp() + 60, 0, 0
    accounts, at_block = list(world.people), {}
    for step, report in enumerate(world.reports):
        at = begins + STEP * step
        if step == CHANGE_AT:
            node.send_block(_governed(market, change), timestamp=at)
            changed = node.block_number
        reports = [deployment.reserves[symbol].feed.transmit(price) for symbol, price in report.items()]
        node.send_block(reports, timestamp=at + 12)
        fall = 1 - report["WETH"] / world.reports[max(0, step - 3)]["WETH"]
        near = accounts
        for look in LOOKS:
            seen = _weak(deployment, near, report)
            near = [one.who for one in seen]  # nothing but liquidators' calls comes in between
            tries = [one for bot in bots for one in bot.acts(at - begins + look, fall, seen)]
            sent = [deployment.liquidate(one.bot, one.collateral, one.debt, one.who, one.amount) for one in tries]
            receipts = node.send_block(sent, timestamp=at + 12 + look)  # no block where nobody calls
            failed += sum(receipt["status"] != "0x1" for receipt in receipts)
            at_block[node.block_number] = report
        own = [deed for deed in world.deeds if deed.step == step]
        calls = [getattr(deployment, deed.kind)(deed.who, deed.symbol, deed.amount) for deed in own]
        node.send_block(calls, timestamp=at + 1_000)
        at_block[node.block_number] = report
    assert step == STEPS - 1
    return Happened(_totals(market, accounts, at_block), changed, node.block_number, failed)


def _harmless(deployment: Deployment) -> Transaction:
    return deployment.reserves["WETH"].asset.transaction("approve", deployment.node.admin, 0)


def _governed(market: Market, change: tuple[str, int] | None) -> list[Transaction]:
    """What governance sends on B; the same block is empty but for something harmless on A."""
    deployment, terms = market.deployment, dict(PRESENT)
    if change is None:
        return [_harmless(deployment)]
    name, value = change
    terms[name] = value
    if name == "close_factor":
        code = market.code.replace(_CLOSE_FACTOR.format(5000), _CLOSE_FACTOR.format(value), 1)
        market.node.rpc("anvil_setCode", market.library, code)
        return [_harmless(deployment)]
    if name == "liquidation_protocol_fee":
        return [deployment.set_protocol_fee("WETH", value)]
    three = [terms[each] for each in ("ltv", "liquidation_threshold", "liquidation_bonus")]
    return [deployment.configure_collateral("WETH", *three)]


def _weak(deployment: Deployment, accounts: list[str], report: object) -> list[Seen]:
    """Accounts below a health of 1.02, with what they hold and owe."""
    data = deployment.account_data(accounts) if accounts else []
    near = [who for who, row in zip(accounts, data, strict=True) if row and row[1] and row[5] < 102 * 10**16]
    if not near:
        return []
    health = {who: row[5] for who, row in zip(accounts, data, strict=True) if row}
    prices, symbols, found = deployment.prices(), list(deployment.reserves), []
    for who, row in zip(near, deployment.balances(near), strict=True):
        held = {s: n for s, n in zip(symbols, row, strict=False) if n and s in DECIMALS}
        owed = {s: n for s, n in zip(symbols, row[len(symbols) :], strict=True) if n}
        if held and owed:
            dollars = [{s: n / 10 ** DECIMALS[s] * prices[s] / 1e8 for s, n in side.items()} for side in (held, owed)]
            found.append(Seen(who, health[who], dollars[0], dollars[1], owed))
    return found


def _totals(market: Market, accounts: list[str], at_block: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    """From the chain's logs, at the oracle's prices of their blocks, and from its views at the end."""
    deployment = market.deployment
    calls, lost = losses(Twin(deployment, "3.6", accounts, {}, ""))
    fixed = {symbol: round(price * 1e8) for symbol, price in START_PRICES.items()}

    def base(symbol: str, amount: int, block: int) -> int:
        price = at_block[block].get(symbol, fixed[symbol])
        return amount * price // int(10 ** DECIMALS[symbol])

    found = dict.fromkeys(MEASURES, 0)
    for call in calls:
        repaid, seized = base(call.debt, call.repaid, call.block), base(call.collateral, call.seized, call.block)
        fee = base(call.collateral, call.fee, call.block)
        found["liquidations"] += 1
        found["repaid"] += repaid
        found["borrower_loss"] += seized + fee - repaid
    found["bad_debt"] = sum(base(each.asset, each.amount, each.block) for each in lost)
    for row in deployment.account_data(accounts):
        if row and row[1] > row[0]:
            found["bad_debt"] += row[1] - row[0]
    return found
