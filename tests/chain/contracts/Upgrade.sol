// SPDX-License-Identifier: BUSL-1.1
pragma solidity ^0.8.20;

import {PoolInstance} from "aave-v3-origin/contracts/instances/PoolInstance.sol";
import {IPoolAddressesProvider} from "aave-v3-origin/contracts/interfaces/IPoolAddressesProvider.sol";
import {IReserveInterestRateStrategy} from "aave-v3-origin/contracts/interfaces/IReserveInterestRateStrategy.sol";
import {DataTypes} from "aave-v3-origin/contracts/protocol/libraries/types/DataTypes.sol";

interface IBalance {
    function balanceOf(address account) external view returns (uint256);
}

/// Pool 3.6 that can take over the storage of a pool 3.0: what the upgrades in between did, in one step.
///
/// Slots whose meaning changed (DataTypes.ReserveData of both versions):
///   currentStableBorrowRate -> deficit: cleared;
///   unbacked -> virtualUnderlyingBalance: the underlying that the aToken holds, which is all the reserve has;
///   configuration bits 59 (stable borrowing) and 168-175 (e-mode category): cleared, both without meaning now.
/// An e-mode category's price source is read as its collateral bitmap: it must be unset, as it is on every known market.
contract PoolFromV30 is PoolInstance {
    constructor(IPoolAddressesProvider provider, IReserveInterestRateStrategy strategy) PoolInstance(provider, strategy) {}

    function initialize(IPoolAddressesProvider provider) external override initializer {
        require(provider == ADDRESSES_PROVIDER, "provider");
        for (uint256 i = 0; i < _reservesCount; i++) {
            address asset = _reservesList[i];
            DataTypes.ReserveData storage reserve = _reserves[asset];
            reserve.configuration.data &= ~((uint256(0xff) << 168) | (uint256(1) << 59));
            reserve.deficit = 0;
            reserve.virtualUnderlyingBalance = uint128(IBalance(asset).balanceOf(reserve.aTokenAddress));
        }
    }
}
