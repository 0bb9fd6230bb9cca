"""What users do in a book that is no longer history's."""

from __future__ import annotations

from typing import Literal, get_args

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, plain

Act = Literal["repay", "supply", "borrow", "withdraw"]
"""What a borrower may do about its account: repay, top up, borrow more, take collateral out; as actions are named."""
ACTS: tuple[Act, ...] = get_args(Act)
TERMS = ("constant", "nearness", "nearness squared", "size", "move", "nearness x move")
"""What a hazard's logit is linear in; ``replay.what_if.hazards`` says how each is measured."""
RESPONSES = ("frozen", "same-ltv", "same-health")
"""The stated ways in which users may respond, which a band shows; the first is the headline of a comparison."""
FITTED = "fitted"
MOST_SIZE = 100_000


class Hazard(Strict, frozen=True):
    """How probable one kind of act is in one step of time, and how large it is."""

    act: Act
    """What is done."""
    coefficients: tuple[int, ...]
    """Of the logit, millionths: constant, nearness, nearness squared, size, move, nearness times move; the constant
    alone where nothing more could be told of history.
    """
    sizes: tuple[int, ...]
    """By value, basis points of the account's debt (repay, borrow) or collateral (supply, withdraw); each is as
    probable.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coefficients) not in (1, len(TERMS)):
            raise ScenarioError(
                f"hazard {self.act}: {len(self.coefficients)} coefficients", f"give 1, the constant, or {len(TERMS)}"
            )
        if not self.sizes or not all(0 < size <= MOST_SIZE for size in self.sizes):
            raise ScenarioError(
                f"hazard {self.act}: sizes are empty or out of range", f"give basis points, 1 to {MOST_SIZE}"
            )


class FittedUsers(Strict, frozen=True):
    """How the borrowers of a market acted, as ``backtest calibrate users`` found it."""

    step: int
    """Seconds of a step of time: once in each, an owner decides."""
    hazards: tuple[Hazard, ...]
    """One a kind of act; what is not named happens as in history."""
    source: str = ""
    """What it was fitted on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.source, "users.fitted.source")
        if not 60 <= self.step <= 2_592_000:
            raise ScenarioError(f"users.fitted.step = {self.step}", "give seconds, 60 to 2592000")
        if len({one.act for one in self.hazards}) < len(self.hazards):
            raise ScenarioError("users.fitted.hazards name an act twice", "give one a kind of act")


class Users(Strict, frozen=True):
    """What users do in a book that is no longer history's. Every historical action is checked again by the contract's
    rules.
    """

    response: Literal["frozen", "same-ltv", "same-health", "fitted"] = "frozen"
    """Amounts of actions that raise risk: as in history, or so that the account uses the same share of its borrowing
    power, or has the same health factor afterwards (as in history where that cannot be told: without debt, or while a
    price is missing). ``fitted``: amounts as in history, and owners act more or less often where their health is not
    history's, by hazards fitted to the market (docs/users.md).
    """
    refused: Literal["skip", "shrink"] = "skip"
    """An action that would revert is skipped, or shrunk to the largest amount allowed."""
    fitted: FittedUsers | None = None
    """The hazards of ``fitted``; None: those that the lake keeps of the market (``backtest calibrate users``)."""
    departures: int = 0
    """Stated elasticity, basis points: the share of borrowers who leave for each percent by which their collateral
    counts less than in history (100 is one percent of them for each percent). 0: nobody leaves.
    """
    arrivals: int = 0
    """Stated elasticity, basis points: newcomers, as a share of borrowers, for each percent by which their collateral
    counts more than in history. 0: nobody comes.
    """
    arrival_size: int = 10_000
    """What a newcomer holds and owes, basis points of the borrower that it is like."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fitted is not None and self.response != FITTED:
            raise ScenarioError(
                f"users.fitted with response = '{self.response}'", "set response = 'fitted', or leave it out"
            )
        for name, value, least, most in (
            ("departures", self.departures, 0, 1_000_000),
            ("arrivals", self.arrivals, 0, 1_000_000),
            ("arrival_size", self.arrival_size, 1, 1_000_000),
        ):
            if not least <= value <= most:
                raise ScenarioError(f"users.{name} = {value}", f"give basis points, {least} to {most}")
