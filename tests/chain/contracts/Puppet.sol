// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// A contract that says what it is told to: every log, and to every call an answer. It stands where a contract of a protocol
// stands whose code is on no package registry, so that its logs and readings come from a node. Own code of the tests.
contract Puppet {
    mapping(bytes32 => bytes) internal answers;

    function teach(bytes calldata call, bytes calldata answer) external {
        answers[keccak256(call)] = answer;
    }

    // Logs of one transaction, in this order.
    function say(bytes32[][] calldata topics, bytes[] calldata data) external {
        for (uint256 i = 0; i < topics.length; i++) emitOne(topics[i], data[i]);
    }

    function emitOne(bytes32[] memory topics, bytes memory data) internal {
        uint256 count = topics.length;
        assembly {
            let first := mload(add(topics, 32))
            let second := mload(add(topics, 64))
            let third := mload(add(topics, 96))
            let fourth := mload(add(topics, 128))
            let start := add(data, 32)
            switch count
            case 1 { log1(start, mload(data), first) }
            case 2 { log2(start, mload(data), first, second) }
            case 3 { log3(start, mload(data), first, second, third) }
            case 4 { log4(start, mload(data), first, second, third, fourth) }
        }
    }

    fallback(bytes calldata call) external returns (bytes memory) {
        bytes memory answer = answers[keccak256(call)];
        require(answer.length > 0, "not taught");
        return answer;
    }
}
