"""``backtest calibrate users``: how the borrowers of a market acted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.moments import block_of
from backtest.cli.numbers import Real, Whole
from backtest.cli.rows import text_table
from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.calibration.hazards import ActFit, UsersFit
    from backtest.lake import Lake
    from backtest.scenario import FittedUsers

WORDS = {"repay": "repay", "supply": "top up", "borrow": "borrow more", "withdraw": "take collateral out"}


def users(
    *,
    lake: Path,
    market: str | None = None,
    to_block: str | None = None,
    split: Real = 0.6,
    step: Whole = 21_600,
    out: Path | None = None,
) -> None:
    """Fit how borrowers repay, top up, borrow more and take collateral out.

    A logistic hazard for each kind of act in a step of time, by health, size and volatility, fitted to the first part
    of history and scored on the rest against the base rate; a kind that does not beat it stays there. The lake keeps
    the result: replay --response fitted uses it, and bands of compare, propose and replay show it beside the others.

    Examples:

        backtest calibrate users --lake data/lake --market my-pool

        backtest calibrate users --lake data/lake --market my-pool --split 0.7 --step 3600 --out users.toml

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    to_block
        Last block that counts, or a date or time in UTC.
    split
        Share of the steps, by time, that is learnt from; the rest is held out.
    step
        Seconds of a step, 60 to 2592000.
    out
        File to write the users of a scenario to, as TOML.
    """
    from backtest.calibration.hazards import fit, steps_of
    from backtest.cli.replay import only_market, progress_bar
    from backtest.lake import Lake
    from backtest.protocols.registry import protocol_named
    from backtest.results import load_material

    if not 0 < split < 1 or not 60 <= step <= 2_592_000:
        raise UserError(
            f"--split {split} or --step {step} is out of range",
            "give a share between 0 and 1, and seconds, 60 to 2592000",
        )
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError(f"--out {out} cannot be written", "name a file in a folder that is there")
    opened = Lake(lake)
    chosen = market or only_market(opened)
    material = load_material(opened, chosen)
    timeline = material.timeline()
    last = timeline.last_known_block(block_of(opened, chosen, to_block, "--to-block"))
    with progress_bar() as progress:
        found = fit(
            steps_of(protocol_named(material.config.protocol), material.market, timeline, step, last, progress), split
        )
    until = timeline.block_from(found.split * step)
    source = f"fitted on {chosen}, blocks {timeline.first_block} to {until - 1}; scored on {until} to {last}"
    fitted = found.fitted(source)
    print("\n".join(told(found, source)))
    print(kept_in(opened, chosen, fitted))
    if out is not None:
        out.write_text(written(fitted, found), encoding="utf-8")
        print(f"written: {len(fitted.hazards)} kinds of acts to {out}")


def told(found: UsersFit, source: str) -> Iterator[str]:
    """What was fitted on what, and how well it tells what it did not see."""
    steps = found.steps
    yield f"Borrowers' acts in steps of {steps.seconds:,} s, {source}."
    yield f"{len(steps.terms):,} borrowers at the start of a step, standing for {steps.weight.sum():,.0f}."
    if steps.unknown:
        yield f"Acts whose size history does not say: {steps.unknown:,}; they count, and their size does not."
    yield ""
    yield from text_table(
        ("Act", "learnt", "held out", "base rate a step", "score above it, nats an act", ""),
        [_row(one) for one in found.acts],
    )
    yield "Not fitted: who comes or leaves under changed terms (stated: [users] departures, arrivals; none as it is)."


def _row(one: ActFit) -> tuple[str, ...]:
    score = "" if one.gain is None else f"{one.gain:+.3f} ± {one.error:.3f}"
    if one.told:
        verdict = "beats it: used"
    elif one.gain is None:
        verdict = "too few to tell: stays at the base rate" if one.learnt else "never done: as in history"
    else:
        verdict = "does not beat it: stays at the base rate"
    return WORDS[one.act], f"{one.learnt:,}", f"{one.held_out:,}", f"{one.rate:.3%}", score, verdict


def written(fitted: FittedUsers, found: UsersFit) -> str:
    """The part of a scenario, with what it rests on as comments."""
    from backtest.calibration.ensemble import said
    from backtest.calibration.fitting import toml
    from backtest.scenario import Users
    from backtest.scenario.toml import parse_scenario

    lines = [*(f"# {line}".rstrip() for line in told(found, fitted.source)), "", "[users]", 'response = "fitted"']
    lines.append(f"fitted = {toml(said(fitted))}")
    text = "\n".join(lines) + "\n"
    assert parse_scenario(text, "the users").users == Users(response="fitted", fitted=fitted)
    return text


def kept_in(lake: Lake, market: str, fitted: FittedUsers) -> str:
    """Keep it in the lake; what came of it."""
    from backtest.fitted import keep_fitted

    try:
        keep_fitted(lake, market, fitted)
    except (UserError, OSError) as error:  # it may be read-only, or busy
        return f"not kept in the lake: {error}; a scenario takes the file: --out FILE"
    return f"kept in the lake: replay --response fitted, and bands of compare, propose and replay, use it for {market}."
