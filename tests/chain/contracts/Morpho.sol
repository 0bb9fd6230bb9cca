// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// What a Morpho Blue market on the test chain needs beside the protocol itself: an adaptive rate curve, oracles, a reader. Own code; the
// curve follows the published formula, since the deployed one's source is on no package registry.

import {IMorpho, Id, Market, MarketParams, Position} from "@morpho-org/morpho-blue/src/interfaces/IMorpho.sol";
import {IIrm} from "@morpho-org/morpho-blue/src/interfaces/IIrm.sol";
import {IOracle} from "@morpho-org/morpho-blue/src/interfaces/IOracle.sol";
import {MarketParamsLib} from "@morpho-org/morpho-blue/src/libraries/MarketParamsLib.sol";
import {MorphoBalancesLib} from "@morpho-org/morpho-blue/src/libraries/periphery/MorphoBalancesLib.sol";

// The deployed contracts, named so that their artifacts are compiled.
import {Morpho} from "@morpho-org/morpho-blue/src/Morpho.sol";
import {IrmMock} from "@morpho-org/morpho-blue/src/mocks/IrmMock.sol";

// r(u, t) = (1 + k * e) * (average of T over the time), T drifting by exp(50 / year * e * t); e is the distance from 90 % utilisation,
// as a share of what lies on that side; k is 3/4 below and 3 above. The average is Simpson's: (start + 2 * middle + end) / 4.
contract AdaptiveCurve is IIrm {
    using MarketParamsLib for MarketParams;

    event BorrowRateUpdate(Id indexed id, uint256 avgBorrowRate, uint256 rateAtTarget);

    int256 internal constant ONE = 1e18;
    int256 internal constant TARGET = 0.9e18;
    int256 internal constant LN2 = 0.693147180559945309e18;

    address public immutable MORPHO;
    mapping(Id => int256) public rateAtTarget;

    constructor(address morpho) {
        MORPHO = morpho;
    }

    function borrowRateView(MarketParams memory params, Market memory market) external view returns (uint256 rate) {
        (rate,) = rates(rateAtTarget[params.id()], market);
    }

    function borrowRate(MarketParams memory params, Market memory market) external returns (uint256 rate) {
        require(msg.sender == MORPHO, "not Morpho");
        int256 end;
        (rate, end) = rates(rateAtTarget[params.id()], market);
        rateAtTarget[params.id()] = end;
        emit BorrowRateUpdate(params.id(), rate, uint256(end));
    }

    function rates(int256 start, Market memory market) public view returns (uint256, int256) {
        int256 used;
        if (market.totalSupplyAssets != 0) {
            used = int256((uint256(market.totalBorrowAssets) * 1e18) / market.totalSupplyAssets);
        }
        int256 side = used > TARGET ? ONE - TARGET : TARGET;
        int256 e = ((used - TARGET) * ONE) / side;
        int256 mean = 0.04e18 / int256(365 days);
        int256 end = mean;
        if (start != 0) {
            int256 drift = ((((50e18 / int256(365 days)) * e) / ONE)) * int256(block.timestamp - market.lastUpdate);
            (mean, end) = (start, start);
            if (drift != 0) {
                end = moved(start, drift);
                mean = (start + 2 * moved(start, drift / 2) + end) / 4;
            }
        }
        int256 k = e < 0 ? int256(0.75e18) : int256(3e18);
        return (uint256((((k * e) / ONE + ONE) * mean) / ONE), end);
    }

    function moved(int256 from, int256 drift) public pure returns (int256 to) {
        to = (from * exponential(drift)) / ONE;
        int256 least = 0.001e18 / int256(365 days);
        int256 most = 2e18 / int256(365 days);
        if (to < least) return least;
        if (to > most) return most;
    }

    // exp(x) = 2^n * exp(y) with the n that leaves y nearest to zero; exp(y) by its first three terms.
    function exponential(int256 x) public pure returns (int256) {
        if (x < -41.446531673892822312e18) return 0;
        if (x >= 93.859467695000404319e18) return 57716089161558943949701069502944508345128.422502756744429568e18;
        int256 n = (x + (x < 0 ? -(LN2 / 2) : LN2 / 2)) / LN2;
        int256 y = x - n * LN2;
        int256 small = ONE + y + ((y * y) / ONE) / 2;
        return n < 0 ? small >> uint256(-n) : small << uint256(n);
    }
}

interface IFeed {
    function decimals() external view returns (uint8);
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80);
}

// The getters and the price of an oracle made of feeds. Shape: MorphoChainlinkOracleV2 without vaults.
contract QuotientOracle is IOracle {
    address public constant BASE_VAULT = address(0);
    address public constant QUOTE_VAULT = address(0);
    IFeed public immutable BASE_FEED_1;
    IFeed public immutable BASE_FEED_2;
    IFeed public immutable QUOTE_FEED_1;
    IFeed public immutable QUOTE_FEED_2;
    uint256 public immutable SCALE_FACTOR;

    constructor(IFeed base1, IFeed base2, uint256 baseDecimals, IFeed quote1, IFeed quote2, uint256 quoteDecimals) {
        (BASE_FEED_1, BASE_FEED_2, QUOTE_FEED_1, QUOTE_FEED_2) = (base1, base2, quote1, quote2);
        SCALE_FACTOR =
            10 ** (36 + quoteDecimals + digits(quote1) + digits(quote2) - baseDecimals - digits(base1) - digits(base2));
    }

    function digits(IFeed feed) internal view returns (uint256) {
        return address(feed) == address(0) ? 0 : feed.decimals();
    }

    function answer(IFeed feed) internal view returns (uint256) {
        if (address(feed) == address(0)) return 1;
        (, int256 value,,,) = feed.latestRoundData();
        require(value >= 0, "negative answer");
        return uint256(value);
    }

    function price() external view returns (uint256) {
        uint256 base = answer(BASE_FEED_1) * answer(BASE_FEED_2);
        return (SCALE_FACTOR * base) / (answer(QUOTE_FEED_1) * answer(QUOTE_FEED_2));
    }
}

// A price that anyone sets and no log tells of.
contract SilentOracle is IOracle {
    uint256 public price;

    function setPrice(uint256 price_) external {
        price = price_;
    }
}

// Reads a market and many positions in one eth_call, by the protocol's own periphery.
contract MorphoReader {
    using MorphoBalancesLib for IMorpho;
    using MarketParamsLib for MarketParams;

    // Stored totals, last update, fee; then the expected totals: supply assets and shares, borrow assets and shares.
    function totals(IMorpho morpho, MarketParams memory params) external view returns (uint256[10] memory row) {
        Market memory m = morpho.market(params.id());
        (uint256 a, uint256 b, uint256 c, uint256 d) = morpho.expectedMarketBalances(params);
        row = [
            uint256(m.totalSupplyAssets), m.totalSupplyShares, m.totalBorrowAssets, m.totalBorrowShares, m.lastUpdate, m.fee,
            a, b, c, d
        ];
    }

    // Supply shares, borrow shares, collateral, expected supply assets, expected borrow assets, whether healthy (Morpho._isHealthy).
    function positions(IMorpho morpho, MarketParams memory params, address[] calldata users)
        external
        view
        returns (uint256[6][] memory rows)
    {
        rows = new uint256[6][](users.length);
        uint256 price = IOracle(params.oracle).price();
        for (uint256 i = 0; i < users.length; i++) {
            Position memory p = morpho.position(params.id(), users[i]);
            uint256 owed = morpho.expectedBorrowAssets(params, users[i]);
            uint256 most = (((uint256(p.collateral) * price) / 1e36) * params.lltv) / 1e18;
            rows[i] = [
                p.supplyShares, p.borrowShares, p.collateral, morpho.expectedSupplyAssets(params, users[i]), owed,
                p.borrowShares == 0 || most >= owed ? 1 : 0
            ];
        }
    }
}
