"""Fixed-point arithmetic of LLAMMA: exponential, logarithms, and the invariant of one band.

Source: curvefi/curve-stablecoin at 58289a42 (March 2024), ``contracts/AMM.vy`` ``_p_oracle_up``, ``_get_y0``,
``get_dynamic_fee``; ``contracts/Controller.vy`` ``wad_ln``; ``contracts/ControllerFactory.vy`` ``ln_int``. The
exponential and the logarithm are the rational approximations published in solmate (``SignedWadMath.sol``) and snekmate
(``math.vy``); their constants are theirs. Prices and amounts are wad (18 decimals), bands whole numbers of any sign.
"""

from __future__ import annotations

from math import isqrt

from backtest.units import WAD

_Q96 = 1 << 96
_LN2 = 54_916_777_467_707_473_351_141_471_128
"""ln 2 times 2^96."""
_EXP_Y = 1_346_386_616_545_796_478_920_950_773_328, 57_155_421_227_552_351_082_224_309_758_442
_EXP_P = (
    94_201_549_194_550_492_254_356_042_504_812,
    28_719_021_644_029_726_153_956_944_680_412_240,
    4_385_272_521_454_847_904_659_076_985_693_276,
)
_EXP_Q = (
    2_855_989_394_907_223_263_936_484_059_900,
    50_020_603_652_535_783_019_961_831_881_945,
    533_845_033_583_426_703_283_633_433_725_380,
    3_604_857_256_930_695_427_073_651_918_091_429,
    14_423_608_567_350_463_180_887_372_962_807_573,
    26_449_188_498_355_588_339_934_803_723_976_023,
)
_EXP_SCALE = 3_822_833_074_963_236_453_042_738_258_902_158_003_155_416_615_667
_LN_P = (
    3_273_285_459_638_523_848_632_254_066_296,
    24_828_157_081_833_163_892_658_089_445_524,
    43_456_485_725_739_037_958_740_375_743_393,
    11_111_509_109_440_967_052_023_855_526_967,
    45_023_709_667_254_063_763_336_534_515_857,
    14_706_773_417_378_608_786_704_636_184_526,
    795_164_235_651_350_426_258_249_787_498,
)
_LN_Q = (
    5_573_035_233_440_673_466_300_451_813_936,
    71_694_874_799_317_883_764_090_561_454_958,
    283_447_036_172_924_575_727_196_451_306_956,
    401_686_690_394_027_663_651_624_208_769_553,
    204_048_457_590_392_012_362_485_061_816_622,
    31_853_899_698_501_571_402_653_359_427_138,
    909_429_971_244_387_300_277_376_558_375,
)
_LN_SCALE = 1_677_202_110_996_718_588_342_820_967_067_443_963_516_166
_LN_2 = 16_597_577_552_685_614_221_487_285_958_193_947_469_193_820_559_219_878_177_908_093_499_208_371
_LN_SHIFT = 600_920_179_829_731_861_736_702_779_321_621_459_595_472_258_049_074_101_567_377_883_020_018_308
_LOG2_E = 1_442_695_040_888_963_328
_LEAST_POWER, _MOST_POWER = -41_446_531_673_892_821_376, 135_305_999_368_893_231_589
_LEAST_EXP = 1_000


class AmmReverts(Exception):
    """The contract would revert; the text is its reason in words."""


def _cut(a: int, b: int) -> int:
    """a / b cut towards zero, as the machine divides signed words."""
    return a // b if (a >= 0) == (b >= 0) else -(-a // b)


def exp_down(power: int) -> int:
    """e to the power (wad), wad, as ``_p_oracle_up`` approximates it. Reverts out of its range."""
    if not _LEAST_POWER < power < _MOST_POWER:
        raise AmmReverts("a band too far away")
    x = _cut(power * _Q96, WAD)
    k = _cut(_cut(x * _Q96, _LN2) + (1 << 95), _Q96)
    x -= k * _LN2
    y = _cut((x + _EXP_Y[0]) * x, _Q96) + _EXP_Y[1]
    p = _cut((y + x - _EXP_P[0]) * y, _Q96) + _EXP_P[1]
    p = p * x + (_EXP_P[2] << 96)
    q = x - _EXP_Q[0]
    for sign, constant in zip((1, -1, 1, -1, 1), _EXP_Q[1:], strict=True):
        q = _cut(q * x, _Q96) + sign * constant
    scaled, shift = _cut(p, q) * _EXP_SCALE, k - 195
    result = scaled << shift if shift >= 0 else scaled >> -shift
    if result <= _LEAST_EXP:
        raise AmmReverts("a band too far away")
    return result


def ln_wad(x: int) -> int:
    """The natural logarithm of x (wad), wad (``Controller.wad_ln``). Reverts for zero."""
    if x <= 0:
        raise AmmReverts("the logarithm of nothing")
    k = x.bit_length() - 1 - 96
    value = x << (159 - k) if k <= 159 else x >> (k - 159)
    value = (value & ((1 << 256) - 1)) >> 159
    p = ((value + _LN_P[0]) * value >> 96) + _LN_P[1]
    p = (p * value >> 96) + _LN_P[2]
    for constant in _LN_P[3:6]:
        p = (p * value >> 96) - constant
    p = p * value - (_LN_P[6] << 96)
    q = ((value + _LN_Q[0]) * value >> 96) + _LN_Q[1]
    for constant in _LN_Q[2:]:
        q = (q * value >> 96) + constant
    return (_cut(p, q) * _LN_SCALE + k * _LN_2 + _LN_SHIFT) >> 174


def ln_of_factory(x: int) -> int:
    """The natural logarithm of x (wad, at least one), wad, bit by bit: what factories give an AMM
    (``ControllerFactory.ln_int``).
    """
    found = 0
    for place in range(8):
        bits = 1 << (7 - place)
        if x >= WAD << bits:
            x >>= bits
            found += bits * WAD
    digit = WAD
    for _ in range(59):
        if x >= 2 * WAD:
            found += digit
            x //= 2
        x = x * x // WAD
        digit //= 2
    return found * WAD // _LOG2_E


def log2_wad(x: int) -> int:
    """The binary logarithm of x (wad, not zero), wad, to ten digits (``Controller.log2`` of June 2023)."""
    if x <= 0:
        raise AmmReverts("the logarithm of nothing")
    inverse = x < WAD
    left, found, digit = 10**36 // x if inverse else x, 0, WAD
    for place in range(8):
        bits = 1 << (7 - place)
        if left >= WAD << bits:
            left >>= bits
            found += bits * WAD
    for _ in range(34):
        if left >= 2 * WAD:
            found += digit
            left //= 2
        left = left * left // WAD
        digit //= 2
    return -found if inverse else found


def floor_bands(log: int, log_ratio: int) -> int:
    """How many bands a logarithm is, rounded down (``_calculate_debt_n1``, ``max_p_base``)."""
    if log < 0:
        log -= log_ratio - 1
    return _cut(log, log_ratio)


def y0_down(x: int, y: int, price: int, up: int, amplification: int) -> int:
    """Collateral that the band would hold without borrowed tokens while AMM, oracle and its upper edge have one price
    (``_get_y0``): the positive root of p A y0^2 - y0 (up / p (A - 1) x + p^2 / up A y) - x y.
    """
    b = up * (amplification - 1) * x // price if x else 0
    if y:
        b += amplification * price**2 // up * y // WAD
    if x and y:
        root = isqrt(b**2 + 4 * amplification * price * y // WAD * x)
        return (b + root) * WAD // (2 * amplification * price)
    return b * WAD // (amplification * price)


def current_edge_down(price: int, up: int) -> int:
    """The AMM's price where a band whose upper edge is ``up`` holds collateral only, at an oracle's price
    (``_p_current_band``).
    """
    return price**2 // up * price // up


def distance_fee_down(price: int, up: int, amplification: int) -> int:
    """A quarter of how far the oracle's price is outside of the band's current prices, wad (``get_dynamic_fee``)."""
    low = current_edge_down(price, up)
    less = amplification - 1
    high = low * amplification // less * amplification // less
    if price < low:
        return (low - price) * (WAD // 4) // low
    if price > high:
        return (price - high) * (WAD // 4) // price
    return 0
