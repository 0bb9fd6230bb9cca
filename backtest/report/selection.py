"""Which runs a comparison shows, and what each is compared with.

Three kinds of columns: history (observed liquidators), baseline (a model under history's parameters), alternatives (the
same with overrides). An alternative is compared with its own baseline alone, the run that differs by the overrides only
(``run_pairs``). Runs that differ in the users' response alone are one family: frozen users are its column, the others
its band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backtest import foreign
from backtest.errors import UserError
from backtest.scenario import RESPONSES

if TYPE_CHECKING:
    from backtest.report.proposal import PairedVerdict

Row = dict[str, Any]
Query = Callable[[str], list[Row]]

BINS = 300  # time bins of a chart, each some three pixels wide
STEPS = (60, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000)
KINDS = ("history", "baseline", "alternative")

# Every run that can be compared, with what it is and what it is compared with.
# swept: a sweep made it. There may be thousands of these: they are compared when they are named.
_KNOWN = """
SELECT runs.*, kind, baseline_id, history_id, run_id IN (SELECT run_id FROM sweep_scenarios WHERE replayed) AS swept,
repeats_id
FROM runs LEFT JOIN run_pairs USING (run_id, market) JOIN run_seeds USING (run_id) ORDER BY name, run_id
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs of one comparison, all of one market, and what scales them.

    Attributes:
        query: runs one SELECT and returns its rows.
        runs: the columns: rows of ``runs`` with ``kind``, ``baseline_id`` and ``history_id`` of ``run_pairs``.
        known: all runs of the market that may be compared: bands and own errors come from them too.
        lake: path of the lake as the user gave it, for commands that are printed.
        decimals: of the base currency.
        older: how many runs of older versions are left out.
        paired: by run id what alternatives change under an ensemble of liquidators; the others are judged by the model
            that they state.
    """

    query: Query
    runs: tuple[Row, ...]
    known: tuple[Row, ...]
    market: str
    lake: str
    decimals: int
    currency: str
    older: int = 0
    paired: Mapping[str, PairedVerdict] = field(default_factory=dict)

    @property
    def main(self) -> Row:
        """The run that single-run tables show: the first baseline, else the first run."""
        return next((run for run in self.runs if run["kind"] == "baseline"), self.runs[0])

    @property
    def alternatives(self) -> list[Row]:
        """The columns that are compared, or would be if they had a baseline."""
        return [run for run in self.runs if run["kind"] == "alternative"]

    @property
    def start(self) -> int:
        """First second of the window: the earliest of the runs."""
        return int(min(run["from_timestamp"] for run in self.runs))

    @property
    def end(self) -> int:
        """Last second of the window."""
        return int(max(run["to_timestamp"] for run in self.runs))

    @property
    def step(self) -> int:
        """Seconds of one time bin."""
        wanted = (self.end - self.start) / BINS
        return next((step for step in STEPS if step >= wanted), STEPS[-1])

    def run(self, run_id: str | None) -> Row | None:
        """A known run by its whole id; None for None."""
        return next((run for run in self.known if run["run_id"] == run_id), None)

    def band(self, run: Row) -> dict[str, Row]:
        """The runs of the family of ``run`` that are stored with a baseline, by the users' response."""
        return {one["response"]: one for one in self.known if one["baseline_id"] and _family(one) == _family(run)}

    def repeats(self, run: Row) -> list[Row]:
        """The runs that differ from ``run`` by their seed alone."""
        return [one for one in self.known if one["repeats_id"] == run["repeats_id"] and one["run_id"] != run["run_id"]]

    def missing_responses(self, run: Row) -> list[str]:
        """Responses of users for which the band lacks a run or its baseline."""
        found = self.band(run)
        return [response for response in RESPONSES if response not in found]

    def fill(self, text: str) -> list[Row]:
        """Rows of a SELECT in which ``$runs`` (the columns), ``$known``, ``$main``, ``$market``, ``$unit``, ``$start``,
        ``$end`` and ``$step`` stand for the selection's.
        """
        values = {
            "$runs": _listed(self.runs),
            "$known": _listed(self.known),
            "$main": _quoted(self.main["run_id"]),
            "$market": _quoted(self.market),
            "$unit": f"1e{self.decimals}",
            "$start": str(self.start),
            "$end": str(self.end),
            "$step": str(self.step),
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return self.query(text)


def printable(rows: list[Row]) -> list[Row]:
    """Rows whose texts hold no control characters: names and symbols are foreign, and end on pages and terminals."""
    return [
        {key: foreign.shown(value, len(value)) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]


def find(query: Query, word: str, market: str | None = None) -> Row:
    """The run whose id starts with, or whose name is, ``word``. UserError where it is none or several."""
    return _named(word, _stored(query, market))


def choose(
    query: Query, wanted: Sequence[str], market: str | None = None
) -> tuple[tuple[Row, ...], tuple[Row, ...], int]:
    """The columns of a comparison, all runs that may be compared with them, and the number of runs of older versions
    left out.

    ``wanted`` are ids, first digits of ids, or names: the columns are these, and the baselines and history that they
    are compared with.
    None: every run but those that a sweep made, of a family the one with frozen users, of repeats the one with the
    lowest seed. History comes first, then baselines, then alternatives.

    Raises:
        UserError: no such run, several, a run of an older version, or runs of more than one market.
    """
    stored = _stored(query, market)
    known = [run for run in stored if run["kind"] is not None]
    if not wanted:
        if not known:
            raise UserError(
                "all runs of the lake were stored by an older version",
                "replay them again; backtest sql still reads them",
            )
        found = [run for run in known if not run["swept"]]
        if not found:
            raise UserError(
                "all runs of the lake are those of sweeps", "name some, or show the sweep: backtest report --sweep NAME"
            )
    else:
        found = []
        for word in wanted:
            run = _named(word, stored)
            if run["kind"] is None:
                raise UserError(
                    f"run '{word}' was stored by an older version and cannot be compared", "replay it again"
                )
            found += [run] if run not in found else []
    markets = sorted({run["market"] for run in found})
    if len(markets) > 1:
        raise UserError(f"runs of several markets: {', '.join(markets)}", "name one with --market")
    known = _related(found, [run for run in known if run["market"] == markets[0]])
    older = sum(1 for run in stored if run["kind"] is None and run["market"] == markets[0])
    return tuple(_with_partners(found if wanted else _folded(found), known)), tuple(known), older


def _stored(query: Query, market: str | None) -> list[Row]:
    stored = [run for run in query(_KNOWN) if market is None or run["market"] == market]
    if not stored:
        raise UserError(
            f"the lake holds no runs{f' of {market}' if market else ''}", "make one first: backtest replay --help"
        )
    return stored


def _named(word: str, known: Sequence[Row]) -> Row:
    hits = [run for run in known if run["run_id"].startswith(word) or run["name"] == word]
    if len(hits) != 1:
        names = ", ".join(f"{run['run_id'][:12]} ({run['name']})" for run in (hits or known)[:8])
        raise UserError(
            f"{'several runs match' if hits else 'there is no run'} '{word}'",
            f"give an id or its first digits: {names}",
        )
    return hits[0]


def _with_partners(found: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """These runs and the history and baselines that they are compared with: by kind, then those that were not asked for
    first.
    """
    by_id = {run["run_id"]: run for run in known}
    partners = [by_id[run[key]] for run in found for key in ("history_id", "baseline_id") if run[key] is not None]
    unique = {run["run_id"]: run for run in (*(partner for partner in partners if partner not in found), *found)}
    return sorted(unique.values(), key=lambda run: KINDS.index(run["kind"]))


def _related(found: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """Without the runs of sweeps that have nothing to do with these: that are no partner of theirs and not of their
    families.
    """
    families = {_family(run) for run in found}
    near = [run for run in known if not run["swept"] or _family(run) in families]
    wanted = {run["run_id"] for run in near} | {run[key] for run in near for key in ("history_id", "baseline_id")}
    return [run for run in known if run["run_id"] in wanted]


def _folded(found: Sequence[Row]) -> list[Row]:
    """Without the runs that are another's band, the same question with users who respond, or its repeats under higher
    seeds.
    """
    frozen = {_family(run) for run in found if run["response"] == RESPONSES[0]}
    lowest = {run["repeats_id"]: run["run_id"] for run in sorted(found, key=lambda run: (-run["seed"], run["run_id"]))}
    return [
        run
        for run in found
        if lowest[run["repeats_id"]] == run["run_id"]
        and (run["response"] == RESPONSES[0] or _family(run) not in frozen)
    ]


def _family(run: Row) -> tuple[Any, ...]:
    return tuple(run[key] for key in ("market", "lake_digest", "rules_version", "engine_version", "kind", "question"))


def _listed(runs: Sequence[Row]) -> str:
    return "(" + ", ".join(_quoted(run["run_id"]) for run in runs) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
