// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

interface IAggregator {
    function transmit(int256 answer) external;
}

interface IOracle {
    function getAssetPrice(address asset) external view returns (uint256);
}

interface IBalances {
    function balanceOf(address account) external view returns (uint256);
}

interface IPool {
    function getUserAccountData(address user) external view returns (uint256, uint256, uint256, uint256, uint256, uint256);
    function getConfiguration(address asset) external view returns (uint256);
    function getUserEMode(address user) external view returns (uint256);
    function getEModeCategoryCollateralBitmap(uint8 category) external view returns (uint128);
    function getEModeCategoryCollateralConfig(uint8 category) external view returns (uint16, uint16, uint16);
    function liquidationCall(address collateral, address debt, address user, uint256 amount, bool receiveAToken) external;
}

/// Several price reports in one transaction.
contract Reporter {
    function report(IAggregator[] calldata feeds, int256[] calldata answers) external {
        for (uint256 i = 0; i < feeds.length; i++) feeds[i].transmit(answers[i]);
    }
}

/// A liquidator who lives by the rule that docs/scenarios.md documents: the most profitable liquidation at oracle prices, then the next, until
/// none pays. It knows nothing of how a liquidation is computed: it makes each call, looks what it paid and got, and takes that back.
contract Bot {
    uint256 private constant MAX_CALLS = 10;
    uint256 private constant LEFTOVER = 1000e8;

    struct Offer {
        uint256 profit;
        uint256 debt;
        uint256 collateral;
        uint256 amount;
    }

    error Outcome(int256 paid, int256 got);
    error MustNotLeaveDust();

    IPool public immutable pool;
    IOracle public immutable oracle;
    bool public immutable leavesNoDust;
    bool public immutable short_;
    bool public immutable receive_;
    address[] public assets;
    IBalances[] public aTokens;
    IBalances[] public debtTokens;
    uint256[] public units;
    address[] public accounts;

    /// Assets in order of listing, accounts ascending: ties go to the first. ``short``: a reserve may run out of what it pays with, so that
    /// each call changes what others can get. ``receiveATokens``: how it settles.
    constructor(
        IPool pool_,
        IOracle oracle_,
        bool leavesNoDust_,
        bool short,
        bool receiveATokens,
        address[] memory assets_,
        IBalances[] memory aTokens_,
        IBalances[] memory debtTokens_,
        uint256[] memory units_,
        address[] memory accounts_
    ) {
        (pool, oracle, leavesNoDust) = (pool_, oracle_, leavesNoDust_);
        (short_, receive_) = (short, receiveATokens);
        (assets, aTokens, debtTokens, units, accounts) = (assets_, aTokens_, debtTokens_, units_, accounts_);
        for (uint256 i = 1; i < accounts_.length; i++) require(accounts_[i - 1] < accounts_[i], "ascending");
    }

    /// Everything that pays, best first. Only what it liquidates itself changes an account within this transaction.
    function run() external {
        uint256 count = accounts.length;
        Offer[] memory offers = new Offer[](count);
        uint256[] memory calls = new uint256[](count);
        for (uint256 i = 0; i < count; i++) offers[i] = _best(accounts[i]);
        while (true) {
            uint256 pick = 0;
            for (uint256 i = 1; i < count; i++) {
                if (offers[i].profit > offers[pick].profit) pick = i;
            }
            Offer memory offer = offers[pick];
            if (offer.profit == 0) return;
            pool.liquidationCall(assets[offer.collateral], assets[offer.debt], accounts[pick], offer.amount, receive_);
            calls[pick] += 1;
            for (uint256 i = 0; short_ && i < count; i++) {
                if (i != pick && calls[i] < MAX_CALLS) offers[i] = _best(accounts[i]);
            }
            if (calls[pick] < MAX_CALLS) offers[pick] = _best(accounts[pick]);
            else delete offers[pick];
        }
    }

    /// Makes a call and takes it back: always reverts, with what it cost and brought in underlying where the call succeeded.
    function attempt(uint256 debt, uint256 collateral, address user, uint256 amount, bool receiveAToken) external {
        int256 held = int256(IBalances(assets[debt]).balanceOf(address(this)));
        IBalances into = receive_ ? aTokens[collateral] : IBalances(assets[collateral]);
        int256 had = int256(into.balanceOf(address(this)));
        pool.liquidationCall(assets[collateral], assets[debt], user, amount, receiveAToken);
        int256 holds = int256(IBalances(assets[debt]).balanceOf(address(this)));
        int256 has = int256(into.balanceOf(address(this)));
        revert Outcome(held - holds, has - had);
    }

    function _best(address user) private returns (Offer memory best) {
        (,,,,, uint256 health) = pool.getUserAccountData(user);
        if (health >= 1e18) return best;
        for (uint256 d = 0; d < assets.length; d++) {
            if (debtTokens[d].balanceOf(user) == 0) continue;
            for (uint256 c = 0; c < assets.length; c++) {
                if (aTokens[c].balanceOf(user) == 0) continue;
                uint256 amount = type(uint256).max;
                (bool done, bool dust, uint256 paid, uint256 got) = _try(d, c, user, amount);
                if (dust && leavesNoDust) {
                    amount = _withoutDust(d, c, user);
                    if (amount > 0) (done,, paid, got) = _try(d, c, user, amount);
                }
                if (!done) continue;
                uint256 value = (got * oracle.getAssetPrice(assets[c])) / units[c];
                uint256 cost = _divUp(paid * oracle.getAssetPrice(assets[d]), units[d]);
                if (value > cost && value - cost > best.profit) best = Offer(value - cost, d, c, amount);
            }
        }
    }

    /// Whether the call succeeds, or would leave dust; what it pays and what it gets.
    function _try(uint256 debt, uint256 collateral, address user, uint256 amount) private returns (bool, bool, uint256, uint256) {
        (bool done, bool dust, int256 paid, int256 got) = _attempt(debt, collateral, user, amount, receive_);
        if (done && debt == collateral && !receive_) {
            // Only the difference shows. Paid alone shows where the collateral comes as aTokens, by the same amounts.
            (done, dust, paid,) = _attempt(debt, collateral, user, amount, true);
            got += paid;
        }
        return (done, dust, uint256(paid), uint256(got));
    }

    function _attempt(uint256 debt, uint256 collateral, address user, uint256 amount, bool receiveAToken) private returns (bool, bool, int256 paid, int256 got) {
        try this.attempt(debt, collateral, user, amount, receiveAToken) {
            revert("an attempt never ends well");
        } catch (bytes memory reason) {
            if (reason.length == 4 && bytes4(reason) == MustNotLeaveDust.selector) return (false, true, 0, 0);
            if (reason.length != 68 || bytes4(reason) != Outcome.selector) return (false, false, 0, 0);
            assembly {
                paid := mload(add(reason, 36))
                got := mload(add(reason, 68))
            }
            return (true, false, paid, got);
        }
    }

    /// The most that may be repaid (3.6) so that 1000 of base currency is left of both, without the last units that rounding may cost; 0: none.
    function _withoutDust(uint256 d, uint256 c, address user) private view returns (uint256 amount) {
        uint256 debt = debtTokens[d].balanceOf(user);
        uint256 debtPrice = oracle.getAssetPrice(assets[d]);
        uint256 keep = _divUp(LEFTOVER * units[d], debtPrice);
        uint256 takeable = _takeableWithoutBonus(c, user);
        if (debt <= keep || takeable == 0) return 0;
        amount = _most(d, c, user, debt, debtPrice);
        if (debt - keep < amount) amount = debt - keep;
        uint256 affordable = (oracle.getAssetPrice(assets[c]) * takeable * units[d]) / (debtPrice * units[c]);
        if (affordable < amount) amount = affordable;
    }

    /// Collateral beyond what must be left, with the bonus taken off (rounded down).
    function _takeableWithoutBonus(uint256 c, address user) private view returns (uint256) {
        uint256 balance = aTokens[c].balanceOf(user);
        uint256 keep = _divUp(LEFTOVER * units[c], oracle.getAssetPrice(assets[c]));
        return balance <= keep ? 0 : ((balance - keep) * 10_000) / _bonus(c, user);
    }

    /// What the close factor allows: all of the debt, or half of the position where both sides are large and health is above 0.95.
    function _most(uint256 d, uint256 c, address user, uint256 debt, uint256 debtPrice) private view returns (uint256) {
        (, uint256 totalDebt,,,, uint256 health) = pool.getUserAccountData(user);
        uint256 debtValue = _divUp(debt * debtPrice, units[d]);
        uint256 collateralValue = (aTokens[c].balanceOf(user) * oracle.getAssetPrice(assets[c])) / units[c];
        if (health <= 0.95e18 || debtValue < 2 * LEFTOVER || collateralValue < 2 * LEFTOVER) return debt;
        uint256 half = (totalDebt + 1) / 2;
        return debtValue > half ? (half * units[d]) / debtPrice : debt;
    }

    /// 10000 + bonus: the reserve's, or the category's where the user's e-mode lists the asset.
    function _bonus(uint256 c, address user) private view returns (uint256) {
        uint8 category = uint8(pool.getUserEMode(user));
        if (category != 0 && (pool.getEModeCategoryCollateralBitmap(category) >> c) & 1 == 1) {
            (,, uint16 bonus) = pool.getEModeCategoryCollateralConfig(category);
            return bonus;
        }
        return (pool.getConfiguration(assets[c]) >> 32) & 0xffff;
    }

    function _divUp(uint256 a, uint256 b) private pure returns (uint256) {
        return (a + b - 1) / b;
    }
}
