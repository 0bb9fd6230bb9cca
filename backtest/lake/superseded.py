"""Results made from content that was replaced since: when blocks are taken anew and come out otherwise, whatever is
stored by then is told apart from what is made afterwards, by the digest of the content that it was made from.

Kept among a market's provenance: one line for each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backtest.lake import Lake, Writer

_FACT = "taken anew"
_RESULTS = ("results/runs", "results/sweeps", "results/validations", "results/contagion")


def note(lake: Lake, writer: Writer, market: str, first: int, last: int) -> None:
    """Note that the blocks ``first`` to ``last`` were taken anew and came out otherwise. Nothing where no results are
    stored.
    """
    digests = {
        digest
        for dataset in _RESULTS
        if dataset in lake.datasets(market)
        for digest in lake.read(dataset, market, columns=["lake_digest"])["lake_digest"].to_pylist()
    }
    if digests:
        line = f"blocks {first} to {last}: {' '.join(sorted(digests))}"
        before = lake.provenance(market).get(_FACT)
        writer.set_provenance(market, {_FACT: f"{before}; {line}" if before else line})


def rows(lake: Lake, market: str) -> list[tuple[str, str, str]]:
    """(market, digest, which blocks were taken anew since) of every digest but that of what the lake holds now."""
    found: dict[str, list[str]] = {}
    for line in filter(None, lake.provenance(market).get(_FACT, "").split("; ")):
        blocks, _, digests = line.partition(": ")
        for digest in digests.split():
            found.setdefault(digest, []).append(blocks)
    if not found:
        return []
    current = lake.digest(market)
    return [(market, digest, ", ".join(blocks)) for digest, blocks in found.items() if digest != current]
