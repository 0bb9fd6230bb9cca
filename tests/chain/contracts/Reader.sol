// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

interface IPoolView {
    function getUserAccountData(address user) external view returns (uint256, uint256, uint256, uint256, uint256, uint256);
    function getUserConfiguration(address user) external view returns (uint256);
    function getUserEMode(address user) external view returns (uint256);
}

interface IScaled {
    function scaledBalanceOf(address user) external view returns (uint256);
    function balanceOf(address user) external view returns (uint256);
}

/// Reads many accounts in one eth_call.
contract Reader {
    /// Seven words an account: 1 (0 if the pool reverts, for example without a price), then the six of getUserAccountData.
    function accountData(IPoolView pool, address[] calldata users) external view returns (uint256[7][] memory rows) {
        rows = new uint256[7][](users.length);
        for (uint256 i = 0; i < users.length; i++) {
            try pool.getUserAccountData(users[i]) returns (uint256 a, uint256 b, uint256 c, uint256 d, uint256 e, uint256 f) {
                rows[i] = [uint256(1), a, b, c, d, e, f];
            } catch {}
        }
    }

    /// Two words an account: configuration bitmap, e-mode category.
    function settings(IPoolView pool, address[] calldata users) external view returns (uint256[2][] memory rows) {
        rows = new uint256[2][](users.length);
        for (uint256 i = 0; i < users.length; i++) {
            rows[i] = [pool.getUserConfiguration(users[i]), pool.getUserEMode(users[i])];
        }
    }

    /// Row by account, column by token.
    function balances(IScaled[] calldata tokens, address[] calldata users, bool scaled) external view returns (uint256[] memory cells) {
        cells = new uint256[](tokens.length * users.length);
        uint256 k = 0;
        for (uint256 i = 0; i < users.length; i++) {
            for (uint256 j = 0; j < tokens.length; j++) {
                cells[k++] = scaled ? tokens[j].scaledBalanceOf(users[i]) : tokens[j].balanceOf(users[i]);
            }
        }
    }
}
