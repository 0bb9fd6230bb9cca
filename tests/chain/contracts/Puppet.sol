// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// A contract that says what it is told to: every log, and to every call an answer. It stands where a contract of a protocol
// stands whose code is on no package registry, so that its logs and readings come from a node. Own code of the tests.
contract Puppet {
    mapping(bytes32 => bytes) internal answers;

    function teach(bytes calldata call, bytes calldata answer) external {
        answers[keccak256(call)] = answer;
    }

    function say(bytes32[] calldata topics, bytes calldata data) external {
        bytes memory body = data;
        uint256 count = topics.length;
        assembly {
            let first := calldataload(topics.offset)
            let second := calldataload(add(topics.offset, 32))
            let third := calldataload(add(topics.offset, 64))
            let fourth := calldataload(add(topics.offset, 96))
            let start := add(body, 32)
            switch count
            case 1 { log1(start, mload(body), first) }
            case 2 { log2(start, mload(body), first, second) }
            case 3 { log3(start, mload(body), first, second, third) }
            case 4 { log4(start, mload(body), first, second, third, fourth) }
        }
    }

    fallback(bytes calldata call) external returns (bytes memory) {
        bytes memory answer = answers[keccak256(call)];
        require(answer.length > 0, "not taught");
        return answer;
    }
}
