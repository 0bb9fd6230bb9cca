// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {SAFEEngine} from "@opendollar/contracts/src/contracts/SAFEEngine.sol";
import {OracleRelayer} from "@opendollar/contracts/src/contracts/OracleRelayer.sol";
import {LiquidationEngine} from "@opendollar/contracts/src/contracts/LiquidationEngine.sol";
import {CollateralAuctionHouse} from "@opendollar/contracts/src/contracts/CollateralAuctionHouse.sol";

/// What stands around the core: a delayed oracle whose price is set, the accounting engine, and the SAFE manager.
contract Surroundings {
    uint256 public price;

    function setPrice(uint256 value) external {
        price = value;
    }

    function getResultWithValidity() external view returns (uint256, bool) {
        return (price, price > 0);
    }

    function priceSource() external view returns (address) {
        return address(this);
    }

    function pushDebtToQueue(uint256) external {}

    function safeHandlerToSafeId(address) external pure returns (uint256) {
        return 1;
    }
}
