// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// Pre-liquidations of a Morpho market on the test chain. Own code from the published rule, since the deployed contracts are on no
// package registry: same calls of Morpho, same logs, same roundings.

import {IMorpho, Id, Market, MarketParams, Position} from "@morpho-org/morpho-blue/src/interfaces/IMorpho.sol";
import {IMorphoRepayCallback} from "@morpho-org/morpho-blue/src/interfaces/IMorphoCallbacks.sol";
import {IOracle} from "@morpho-org/morpho-blue/src/interfaces/IOracle.sol";
import {SharesMathLib} from "@morpho-org/morpho-blue/src/libraries/SharesMathLib.sol";

interface IToken {
    function approve(address spender, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

struct Terms {
    uint256 preLltv;
    uint256 preLCF1;
    uint256 preLCF2;
    uint256 preLIF1;
    uint256 preLIF2;
    address preLiquidationOracle;
}

contract Line is IMorphoRepayCallback {
    using SharesMathLib for uint256;

    event PreLiquidate(
        Id indexed id, address indexed liquidator, address indexed borrower, uint256 repaidAssets, uint256 repaidShares, uint256 seizedAssets
    );

    error NotHere();
    error TooLarge();

    uint256 internal constant ONE = 1e18;
    IMorpho internal immutable morpho;
    Id internal immutable id;
    Terms internal terms;
    MarketParams internal params;

    constructor(IMorpho morpho_, Id id_, Terms memory terms_) {
        (morpho, id, terms, params) = (morpho_, id_, terms_, morpho_.idToMarketParams(id_));
        IToken(params.loanToken).approve(address(morpho_), type(uint256).max);
    }

    function up(uint256 a, uint256 b, uint256 c) internal pure returns (uint256) {
        return (a * b + c - 1) / c;
    }

    // Where on the line a position is: how much of its shares may be repaid, and what a unit of debt takes.
    function line(uint256 worth, uint256 owed) internal view returns (uint256 close, uint256 incentive) {
        if (owed > (worth * params.lltv) / ONE || owed <= (worth * terms.preLltv) / ONE) revert NotHere();
        uint256 along = ((up(owed, ONE, worth) - terms.preLltv) * ONE) / (params.lltv - terms.preLltv);
        close = (along * (terms.preLCF2 - terms.preLCF1)) / ONE + terms.preLCF1;
        incentive = (along * (terms.preLIF2 - terms.preLIF1)) / ONE + terms.preLIF1;
    }

    function preLiquidate(address borrower, uint256 seized, uint256 shares, bytes calldata) external returns (uint256, uint256) {
        if ((seized == 0) == (shares == 0)) revert NotHere();
        morpho.accrueInterest(params);
        Market memory m = morpho.market(id);
        Position memory p = morpho.position(id, borrower);
        uint256 price = IOracle(terms.preLiquidationOracle).price();
        uint256 owed = uint256(p.borrowShares).toAssetsUp(m.totalBorrowAssets, m.totalBorrowShares);
        (uint256 close, uint256 incentive) = line((p.collateral * price) / 1e36, owed);
        if (seized > 0) {
            shares = up(up(seized, price, 1e36), ONE, incentive).toSharesUp(m.totalBorrowAssets, m.totalBorrowShares);
        } else {
            uint256 taken = (shares.toAssetsDown(m.totalBorrowAssets, m.totalBorrowShares) * incentive) / ONE;
            seized = (taken * 1e36) / price;
        }
        if (shares > (p.borrowShares * close) / ONE) revert TooLarge();
        (uint256 repaid,) = morpho.repay(params, 0, shares, borrower, abi.encode(seized, borrower, msg.sender));
        emit PreLiquidate(id, msg.sender, borrower, repaid, shares, seized);
        return (seized, repaid);
    }

    function onMorphoRepay(uint256 repaid, bytes calldata data) external {
        (uint256 seized, address borrower, address liquidator) = abi.decode(data, (uint256, address, address));
        morpho.withdrawCollateral(params, seized, borrower, liquidator);
        IToken(params.loanToken).transferFrom(liquidator, address(this), repaid);
    }
}

contract LineFactory {
    event CreatePreLiquidation(address indexed preLiquidation, Id id, Terms preLiquidationParams);

    IMorpho internal immutable morpho;

    constructor(IMorpho morpho_) {
        morpho = morpho_;
    }

    function createPreLiquidation(Id id, Terms calldata terms) external returns (address made) {
        made = address(new Line{salt: 0}(morpho, id, terms));
        emit CreatePreLiquidation(made, id, terms);
    }
}
