"""What Aave V2 and V3 keep alike in storage: addresses that a provider gives by name, an account's flags, prices by
source.
"""

from __future__ import annotations

from collections.abc import Sequence

from backtest.errors import UserError
from backtest.model import Asset, AssetId
from backtest.protocols.storage import Input, Slot, Steps, Subject, address_in, at_key, bits, viewed, words

NO_ADDRESS = "0x" + "00" * 20
MOST_RESERVES = 128
_PROVIDED = 2
"""``_addresses`` of ``PoolAddressesProvider`` and ``LendingPoolAddressesProvider``, after an owner and a text."""


def provided(provider: str, name: str) -> Slot:
    """Where a provider keeps the address of a name (a bytes32 of ASCII text)."""
    return provider, at_key(_PROVIDED, "0x" + name.encode().ljust(32, b"\0").hex())


def own_pool(provider: str, word: int, pool: str) -> None:
    """UserError where the provider's pool is another one."""
    if address_in(word) != pool:
        raise UserError(f"the pool of provider {provider} is {address_in(word)}, not {pool}", "correct the market")


def flagged(pool: str, at_list: int, flags: int) -> Steps[set[str]]:
    """Addresses of the reserves that an account borrows (bit 2i of its map) or uses as collateral (bit 2i + 1)."""
    places = [place for place in range(MOST_RESERVES) if bits(flags, 2 * place, 2)]
    return set(map(address_in, (yield from words([(pool, at_key(at_list, place)) for place in places]))))


def source_prices(
    subject: Subject, oracle: str, at_sources: int, assets: Sequence[Asset]
) -> Steps[tuple[dict[AssetId, int], list[Input]]]:
    """The price of each asset, where it has one, and who says it: the source that ``AaveOracle.assetsSources`` (at this
    slot) names.
    """
    prices: dict[AssetId, int] = {}
    inputs = []
    sources = yield from words([(oracle, at_key(at_sources, each.asset)) for each in assets])
    for each, source in zip(assets, map(address_in, sources), strict=True):
        view = subject.view(oracle, "getAssetPrice(address)", each.asset)
        price = yield from viewed(view)
        named = "which names no source for it" if source == NO_ADDRESS else f"whose source for it is {source}"
        inputs.append(Input(f"price of {each.symbol}", f"the oracle {oracle}, {named}", price, view))
        if price is not None and price > 0:
            prices[each.id] = price
    return prices, inputs
