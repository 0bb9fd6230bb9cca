// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Takes a flash loan of Aave V2 and keeps it until the pool pulls it back with the premium, or makes a debt of it.
contract FlashBorrowerV2 {
    function executeOperation(address[] calldata, uint256[] calldata, uint256[] calldata, address, bytes calldata) external pure returns (bool) {
        return true;
    }
}
