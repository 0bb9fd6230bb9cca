// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Oracles that a market's oracle may fall back on, other than AaveOracle itself.

// Prices by decree, of which no log tells. Shape: aave-v3-core mocks/oracle/PriceOracle, which testnets fall back on;
// but without a price it reverts.
contract SilentOracle {
    mapping(address => uint256) internal prices;

    function setAssetPrice(address asset, uint256 price) external {
        prices[asset] = price;
    }

    function getAssetPrice(address asset) external view returns (uint256) {
        require(prices[asset] != 0, "no price");
        return prices[asset];
    }
}
