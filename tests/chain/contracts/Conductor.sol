// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Makes calls to several contracts in one transaction, so that their logs stand in it one after another. Own code of the tests.
contract Conductor {
    function play(address[] calldata targets, bytes[] calldata calls) external {
        for (uint256 i = 0; i < targets.length; i++) {
            (bool made, ) = targets[i].call(calls[i]);
            require(made, "a call reverted");
        }
    }
}
