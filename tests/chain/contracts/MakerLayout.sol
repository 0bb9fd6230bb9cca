// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// State variables declared as those of makerdao/dss src/vat.sol and src/spot.sol are, in their order and with their types: own code, whose one
// purpose is to have the compiler lay them out.

contract VatLayout {
    mapping(address => uint256) public wards;
    mapping(address => mapping(address => uint256)) public can;

    struct Ilk {
        uint256 Art;
        uint256 rate;
        uint256 spot;
        uint256 line;
        uint256 dust;
    }

    struct Urn {
        uint256 ink;
        uint256 art;
    }

    mapping(bytes32 => Ilk) public ilks;
    mapping(bytes32 => mapping(address => Urn)) public urns;

    function set(bytes32 ilk, uint256 rate, uint256 spot, address urn, uint256 ink, uint256 art) external {
        ilks[ilk] = Ilk(art, rate, spot, 7, 8);
        urns[ilk][urn] = Urn(ink, art);
    }
}

contract SpotterLayout {
    mapping(address => uint256) public wards;

    struct Ilk {
        address pip;
        uint256 mat;
    }

    mapping(bytes32 => Ilk) public ilks;
    address public vat;
    uint256 public par;

    constructor(address vat_, uint256 par_) {
        vat = vat_;
        par = par_;
    }

    function set(bytes32 ilk, uint256 mat) external {
        ilks[ilk] = Ilk(address(1), mat);
    }
}
