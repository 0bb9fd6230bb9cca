// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Price sources for tests: own code with the getters and the event shapes of the sources that Aave markets use, so that
// the resolver meets the real interface. Access control is left out on purpose: anyone may set anything.

interface IAnswer {
    function latestAnswer() external view returns (int256);
    function decimals() external view returns (uint8);
}

// An aggregator: round ids are a plain counter, every answer is a log. Shape: libocr OffchainAggregator.
contract Aggregator is IAnswer {
    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    struct Round {
        int256 answer;
        uint256 at;
    }

    uint8 public override decimals;
    string public description;
    uint256 public latestRound;
    mapping(uint256 => Round) internal rounds;

    // An answer of zero means: none transmitted yet.
    constructor(uint8 decimals_, string memory description_, int256 answer) {
        decimals = decimals_;
        description = description_;
        if (answer != 0) transmit(answer);
    }

    function transmit(int256 answer) public {
        latestRound += 1;
        rounds[latestRound] = Round(answer, block.timestamp);
        emit AnswerUpdated(answer, latestRound, block.timestamp);
    }

    // Several answers in one transaction, hence in one block.
    function transmitAll(int256[] calldata answers) external {
        for (uint256 i = 0; i < answers.length; i++) transmit(answers[i]);
    }

    // Leaves a hole in the round ids, as lost logs would.
    function skipRound() external {
        latestRound += 1;
    }

    function latestAnswer() public view virtual override returns (int256) {
        return rounds[latestRound].answer;
    }

    function latestTimestamp() external view returns (uint256) {
        return rounds[latestRound].at;
    }

    function getRoundData(uint80 id) public view returns (uint80, int256, uint256, uint256, uint80) {
        require(id <= latestRound && rounds[id].at != 0, "No data present");
        return (id, rounds[id].answer, rounds[id].at, rounds[id].at, id);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(uint80(latestRound));
    }
}

// An aggregator that shows an answer only some time after it arrived. Shape: chainlink DualAggregator, seen by the proxy of
// those who share in the auction.
contract DelayedAggregator is Aggregator {
    string public constant typeAndVersion = "DualAggregator 1.0.0";
    uint256 public immutable cutoff;

    constructor(uint8 decimals_, int256 answer, uint256 cutoff_) Aggregator(decimals_, "delayed", answer) {
        cutoff = cutoff_;
    }

    function latestAnswer() public view override returns (int256) {
        for (uint256 id = latestRound; id > 1; id--) {
            if (rounds[id].at + cutoff < block.timestamp) return rounds[id].answer;
        }
        return rounds[1].answer;
    }
}

// A proxy with phases and no event for a switch. Shape: AggregatorProxy v0.6.
contract FeedProxy is IAnswer {
    uint16 public phaseId;
    mapping(uint16 => address) public phaseAggregators;

    constructor(address aggregator_) {
        setAggregator(aggregator_);
    }

    function setAggregator(address aggregator_) public {
        phaseId += 1;
        phaseAggregators[phaseId] = aggregator_;
    }

    function aggregator() public view returns (address) {
        return phaseAggregators[phaseId];
    }

    function decimals() external view override returns (uint8) {
        return Aggregator(aggregator()).decimals();
    }

    function description() external view returns (string memory) {
        return Aggregator(aggregator()).description();
    }

    function latestAnswer() external view override returns (int256) {
        return Aggregator(aggregator()).latestAnswer();
    }

    function latestRound() external view returns (uint256) {
        return (uint256(phaseId) << 64) | Aggregator(aggregator()).latestRound();
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData((uint80(phaseId) << 64) | uint80(Aggregator(aggregator()).latestRound()));
    }

    function getRoundData(uint80 id) public view returns (uint80, int256, uint256, uint256, uint80) {
        (, int256 answer, uint256 startedAt, uint256 updatedAt,) =
            Aggregator(phaseAggregators[uint16(id >> 64)]).getRoundData(uint80(uint64(id)));
        return (id, answer, startedAt, updatedAt, id);
    }
}

// An exchange rate that moves without a log, as the rate of a liquid staking token does.
contract RatioProvider {
    int256 public ratio;
    // Growth of the ratio per second since it was set: not zero makes it move in every block.
    int256 public growth;
    uint256 internal since;

    constructor(int256 ratio_) {
        setRatio(ratio_);
    }

    function setRatio(int256 ratio_) public {
        ratio = ratio_;
        since = block.timestamp;
    }

    function setGrowth(int256 perSecond) external {
        setRatio(current());
        growth = perSecond;
    }

    function current() public view returns (int256) {
        return ratio + growth * int256(block.timestamp - since);
    }
}

// A capped exchange rate. Shape: aave-capo PriceCapAdapterBase; `scaled` chooses its later version, whose growth per
// second has six more digits.
contract CappedRatioAdapter is IAnswer {
    event CapParametersUpdated(
        uint256 snapshotRatio,
        uint256 snapshotTimestamp,
        uint256 maxRatioGrowthPerSecond,
        uint16 maxYearlyRatioGrowthPercent
    );

    IAnswer public immutable BASE_TO_USD_AGGREGATOR;
    address public immutable RATIO_PROVIDER;
    uint8 public immutable DECIMALS;
    uint8 public immutable RATIO_DECIMALS;
    string public description;

    uint256 public getSnapshotRatio;
    uint256 public getSnapshotTimestamp;
    uint256 public getMaxYearlyGrowthRatePercent;
    uint256 internal growth;

    constructor(
        address base,
        address provider,
        string memory description_,
        uint8 ratioDecimals,
        uint256 snapshotRatio,
        uint256 snapshotTimestamp,
        uint16 percent
    ) {
        BASE_TO_USD_AGGREGATOR = IAnswer(base);
        RATIO_PROVIDER = provider;
        DECIMALS = IAnswer(base).decimals();
        RATIO_DECIMALS = ratioDecimals;
        description = description_;
        setCapParameters(snapshotRatio, snapshotTimestamp, percent);
    }

    function setCapParameters(uint256 snapshotRatio, uint256 snapshotTimestamp, uint16 percent) public virtual {
        _store(snapshotRatio, snapshotTimestamp, percent);
        growth = (snapshotRatio * percent) / 1e4 / 365 days;
        emit CapParametersUpdated(snapshotRatio, snapshotTimestamp, growth, percent);
    }

    function _store(uint256 snapshotRatio, uint256 snapshotTimestamp, uint16 percent) internal {
        getSnapshotRatio = snapshotRatio;
        getSnapshotTimestamp = snapshotTimestamp;
        getMaxYearlyGrowthRatePercent = percent;
    }

    function getMaxRatioGrowthPerSecond() public view virtual returns (uint256) {
        return growth;
    }

    function maxRatio() public view virtual returns (int256) {
        return int256(getSnapshotRatio + growth * (block.timestamp - getSnapshotTimestamp));
    }

    function getRatio() public view virtual returns (int256) {
        return RatioProvider(RATIO_PROVIDER).current();
    }

    function isCapped() external view returns (bool) {
        return getRatio() > maxRatio();
    }

    function decimals() external view override returns (uint8) {
        return DECIMALS;
    }

    function latestAnswer() external view override returns (int256) {
        int256 base = BASE_TO_USD_AGGREGATOR.latestAnswer();
        int256 ratio = getRatio();
        if (base <= 0 || ratio <= 0) return 0;
        int256 limit = maxRatio();
        return (base * (ratio < limit ? ratio : limit)) / int256(10 ** RATIO_DECIMALS);
    }
}

// The later version of PriceCapAdapterBase: the growth is kept with six more digits than the event shows.
contract ScaledCappedRatioAdapter is CappedRatioAdapter {
    event CapParametersUpdated(
        uint256 snapshotRatio,
        uint256 snapshotTimestamp,
        uint256 maxRatioGrowthPerSecond,
        uint32 maxYearlyRatioGrowthPercent
    );

    constructor(
        address base,
        address provider,
        string memory description_,
        uint8 ratioDecimals,
        uint256 snapshotRatio,
        uint256 snapshotTimestamp,
        uint16 percent
    ) CappedRatioAdapter(base, provider, description_, ratioDecimals, snapshotRatio, snapshotTimestamp, percent) {}

    function setCapParameters(uint256 snapshotRatio, uint256 snapshotTimestamp, uint16 percent) public override {
        _store(snapshotRatio, snapshotTimestamp, percent);
        growth = (snapshotRatio * percent * 1e6) / 1e4 / 365 days;
        emit CapParametersUpdated(snapshotRatio, snapshotTimestamp, growth / 1e6, uint32(percent));
    }

    function getMaxRatioGrowthPerSecond() public view override returns (uint256) {
        return growth / 1e6;
    }

    function getMaxRatioGrowthPerSecondScaled() external view returns (uint256) {
        return growth;
    }

    function maxRatio() public view override returns (int256) {
        return int256(getSnapshotRatio + (growth * (block.timestamp - getSnapshotTimestamp)) / 1e6);
    }
}

// A capped rate whose ratio is a feed's answer. Shape: aave-capo CLRatePriceCapAdapter.
contract RateFeedAdapter is CappedRatioAdapter {
    constructor(
        address base,
        address rateFeed,
        string memory description_,
        uint8 ratioDecimals,
        uint256 snapshotRatio,
        uint256 snapshotTimestamp,
        uint16 percent
    ) CappedRatioAdapter(base, rateFeed, description_, ratioDecimals, snapshotRatio, snapshotTimestamp, percent) {}

    function getRatio() public view override returns (int256) {
        return IAnswer(RATIO_PROVIDER).latestAnswer();
    }
}

// A feed with a lid. Shape: aave-capo PriceCapAdapterStable.
contract CappedStableAdapter is IAnswer {
    event PriceCapUpdated(int256 priceCap);

    IAnswer public immutable ASSET_TO_USD_AGGREGATOR;
    uint8 public override decimals;
    string public description;
    int256 public getPriceCap;

    constructor(address feed, string memory description_, int256 cap) {
        ASSET_TO_USD_AGGREGATOR = IAnswer(feed);
        decimals = IAnswer(feed).decimals();
        description = description_;
        setPriceCap(cap);
    }

    function setPriceCap(int256 cap) public {
        getPriceCap = cap;
        emit PriceCapUpdated(cap);
    }

    function latestAnswer() external view override returns (int256) {
        int256 base = ASSET_TO_USD_AGGREGATOR.latestAnswer();
        if (base > getPriceCap) return getPriceCap;
        return base <= 0 ? int256(0) : base;
    }
}

// A price by decree. Shape: aave-capo FixedPriceAdapter.
contract FixedAdapter is IAnswer {
    event FixedPriceUpdated(int256 currentPrice, int256 newPrice);

    uint8 public immutable DECIMALS;
    int256 public price;
    string public description;

    constructor(uint8 decimals_, int256 price_, string memory description_) {
        DECIMALS = decimals_;
        description = description_;
        setPrice(price_);
    }

    function setPrice(int256 price_) public {
        emit FixedPriceUpdated(price, price_);
        price = price_;
    }

    function decimals() external view override returns (uint8) {
        return DECIMALS;
    }

    function latestAnswer() external view override returns (int256) {
        return price;
    }
}

// A price that is in the code, with no getter to tell. Shape: gho-core GhoOracle.
contract ConstantAnswer is IAnswer {
    function decimals() external pure override returns (uint8) {
        return 8;
    }

    function latestAnswer() external pure override returns (int256) {
        return 1e8;
    }
}

// asset/peg times peg/base. Shape: cl-synchronicity-price-adapter CLSynchronicityPriceAdapterPegToBase.
contract CrossAdapter is IAnswer {
    IAnswer public immutable PEG_TO_BASE;
    IAnswer public immutable ASSET_TO_PEG;
    uint8 public immutable DECIMALS;
    int256 public immutable DENOMINATOR;
    string public description;

    constructor(address pegToBase, address assetToPeg, uint8 decimals_, string memory description_) {
        PEG_TO_BASE = IAnswer(pegToBase);
        ASSET_TO_PEG = IAnswer(assetToPeg);
        DECIMALS = decimals_;
        DENOMINATOR = int256(10 ** (uint256(PEG_TO_BASE.decimals()) + ASSET_TO_PEG.decimals()));
        description = description_;
    }

    function decimals() external view override returns (uint8) {
        return DECIMALS;
    }

    function latestAnswer() external view override returns (int256) {
        int256 asset = ASSET_TO_PEG.latestAnswer();
        int256 peg = PEG_TO_BASE.latestAnswer();
        if (asset <= 0 || peg <= 0) return 0;
        return (asset * peg * int256(10 ** DECIMALS)) / DENOMINATOR;
    }
}

// A price that rises to par at maturity. Shape: aave-capo PendlePriceCapAdapter.
contract DiscountAdapter is IAnswer {
    event maxDiscountPerYearUpdated(uint16 oldMaxDiscountPerYear, uint16 newMaxDiscountPerYear);

    IAnswer public immutable ASSET_TO_USD_AGGREGATOR;
    uint256 public immutable MATURITY;
    uint8 public immutable DECIMALS;
    string public description;
    uint16 internal discount;

    constructor(address feed, uint256 maturity, uint16 discount_, string memory description_) {
        ASSET_TO_USD_AGGREGATOR = IAnswer(feed);
        MATURITY = maturity;
        DECIMALS = IAnswer(feed).decimals();
        description = description_;
        setMaxDiscountPerYear(discount_);
    }

    function setMaxDiscountPerYear(uint16 discount_) public {
        emit maxDiscountPerYearUpdated(discount, discount_);
        discount = discount_;
    }

    function getMaxDiscountPerYear() external view returns (uint256) {
        return discount;
    }

    function getCurrentDiscount() public view returns (uint256) {
        uint256 left = MATURITY > block.timestamp ? MATURITY - block.timestamp : 0;
        return (left * discount) / 365 days;
    }

    function decimals() external view override returns (uint8) {
        return DECIMALS;
    }

    function latestAnswer() external view override returns (int256) {
        int256 price = ASSET_TO_USD_AGGREGATOR.latestAnswer();
        if (price <= 0) return 0;
        return price - (price * int256(getCurrentDiscount())) / 1e4;
    }
}

// An adapter whose rule is in no getter: it halves its feed, and can be made to revert.
contract OpaqueAdapter is IAnswer {
    IAnswer public immutable ASSET_TO_USD_AGGREGATOR;
    bool public broken;

    constructor(address feed) {
        ASSET_TO_USD_AGGREGATOR = IAnswer(feed);
    }

    function setBroken(bool broken_) external {
        broken = broken_;
    }

    function decimals() external view override returns (uint8) {
        return ASSET_TO_USD_AGGREGATOR.decimals();
    }

    function latestAnswer() external view override returns (int256) {
        require(!broken, "broken");
        return ASSET_TO_USD_AGGREGATOR.latestAnswer() / 2;
    }
}

// The part of AaveOracle that prices need, for tests of sources alone; market tests use the real one.
contract SourceBook {
    event AssetSourceUpdated(address indexed asset, address indexed source);

    mapping(address => address) public getSourceOfAsset;

    function setAssetSources(address[] calldata assets, address[] calldata sources) external {
        for (uint256 i = 0; i < assets.length; i++) {
            getSourceOfAsset[assets[i]] = sources[i];
            emit AssetSourceUpdated(assets[i], sources[i]);
        }
    }

    function getAssetPrice(address asset) public view returns (uint256) {
        int256 answer = IAnswer(getSourceOfAsset[asset]).latestAnswer();
        require(answer > 0, "no price");
        return uint256(answer);
    }

    function getAssetsPrices(address[] calldata assets) external view returns (uint256[] memory prices) {
        prices = new uint256[](assets.length);
        for (uint256 i = 0; i < assets.length; i++) prices[i] = getAssetPrice(assets[i]);
    }
}
