"""``backtest verify``: a proof of an account, checked without a node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import UserError
from backtest.foreign import shown

if TYPE_CHECKING:
    from backtest.markets import MarketConfig


def verify(proof: Path, *, block_hash: str, market: str | None = None) -> int:
    """Check a proof of an account against the hash of a block that you trust, and value the account by the rules. No
    node and no lake is needed.

    Printed are the account's numbers and what each rests on: words of storage that lead to the block's hash, or what a
    view said when the proof was made, which nothing proves. The names and decimals of tokens are the file's.
    Which contracts are the market is the one thing that the hash cannot say: a file that names a market that ships is
    held against it, of any other compare the contracts, or give --market.
    Exits with 1 where the file does not prove what it says.

    Examples:

        backtest verify alice.proof --block-hash 0x4e3a3754410177e6937ef1f84bba68ea139e8d1a2258c5f85db9f1cd715a1bdd

        backtest verify alice.proof --market ethereum-core --block-hash $HASH

    Parameters
    ----------
    proof
        The file that backtest prove wrote.
    block_hash
        Hash of the block, from where you trust it: your own node, an explorer.
    market
        The market that it must be of: name of one that ships with backtest (data/markets), or the path of a TOML file.
    """
    from backtest.cli.fetch import named_market
    from backtest.cli.prove import told
    from backtest.fetch.market_files import shipped_markets
    from backtest.files import read_bytes
    from backtest.proofs import Unproven, check, decoded
    from backtest.proofs.proof import LIMIT

    trusted = trusted_hash(block_hash)
    found = decoded(read_bytes(proof, LIMIT), str(proof))
    shipped = {each.name: each for each in shipped_markets()}
    wanted = shipped.get(found.market.name) if market is None else named_market(market, None)
    try:
        checked = check(found, trusted)
        if wanted is not None and (what := _unlike(wanted, found.market)):
            named = "that ships" if market is None else "that --market names"
            raise Unproven(f"it is of another market than the {wanted.name} {named}: {what} differ")
    except Unproven as error:
        print(f"{shown(str(proof))} is refused: {error}")
        return 1
    for line in told(checked):
        print(line)
    said = "compare its contracts: no market that ships has its name" if wanted is None else f"it is of {wanted.name}"
    print(f"the proof holds; {said}")
    return 0


def _unlike(mine: MarketConfig, theirs: MarketConfig) -> str | None:
    """What two descriptions of a market differ in; None: nothing that numbers depend on."""
    for what, one, other in (
        ("protocol", mine.protocol, theirs.protocol),
        ("chain", mine.chain_id, theirs.chain_id),
        ("contracts", mine.contracts, theirs.contracts),
        ("parameters", mine.parameters, theirs.parameters),
        ("units", (mine.base_decimals, mine.price_decimals), (theirs.base_decimals, theirs.price_decimals)),
    ):
        if one != other:
            return what
    return None


def trusted_hash(text: str) -> str:
    """A block's hash as users write it, in lower case. UserError for anything else."""
    if not re.fullmatch("0x[0-9a-f]{64}", text.lower(), re.ASCII):
        raise UserError(f"--block-hash '{shown(text, 80)}' is no hash", "give 0x and 64 hex digits")
    return text.lower()
