-- makerdao/dss src/spot.sol, poke: the Vat's price of an ilk is that of the last Poke, val in wad; a spot of zero says that the feed has none.
-- makerdao/osm src/osm.sol, poke: LogValue is what the OSM says from there on, which the Vat has from the next Poke on.
WITH told AS (
    SELECT source_row, 'oracle' AS kind, evt_block_number, evt_block_time, evt_tx_hash, evt_index, val,
        CASE WHEN regexp_matches(ilk, '^(0x|0X|\\x)') THEN rtrim(lower(substr(ilk, 3)), '0') ELSE lower(hex(ilk)) END AS ilk_hex, ilk, spot,
        NULL AS osm, 0 AS osms
    FROM pokes
    UNION ALL
    SELECT source_row, 'source', evt_block_number, evt_block_time, evt_tx_hash, evt_index, val, NULL, NULL, NULL, lower(replace(contract_address, '\x', '0x')),
        (SELECT count(DISTINCT lower(contract_address)) FROM log_values)
    FROM log_values
),
-- 32 bytes as hex, or a whole number: a value of more than 31 hex digits is no price.
parsed AS (
    SELECT *, CASE WHEN regexp_full_match(val, '(0x|0X|\\x)[0-9a-fA-F]{64}') THEN ltrim(lower(substr(val, 3)), '0') END AS digits FROM told
),
priced AS (
    SELECT *, CASE
        WHEN digits = '' THEN '0'
        WHEN length(digits) <= 31 THEN CAST(list_reduce(list_transform(string_split(digits, ''), lambda d: CAST(instr('0123456789abcdef', d) - 1 AS HUGEINT)),
            lambda a, b: a * 16 + b) AS VARCHAR)
        WHEN digits IS NULL THEN val
    END AS wad
    FROM parsed
)
SELECT source_row, $asset AS asset, kind, wad || 'e-18' AS price, evt_block_number AS block, evt_block_time AS timestamp, evt_tx_hash AS transaction_hash,
    evt_index AS log_index,
    CASE
        WHEN wad IS NULL THEN 'val ' || val || ' is no price'
        WHEN kind = 'oracle' AND coalesce(regexp_full_match(nullif(spot, ''), '0|(0x|\\x)0*'), true) THEN 'the feed had no price: spot is ' || coalesce(nullif(spot, ''), 'missing')
        WHEN kind = 'source' AND $osm = '' AND osms > 1 THEN 'LogValue of ' || osms || ' contracts: say whose with --set osm=0x...'
    END AS problem,
    CASE
        WHEN kind = 'oracle' AND ilk_hex <> rtrim(lower(hex($ilk)), '0') THEN 'of collateral type ' || ilk
        WHEN kind = 'source' AND $osm <> '' AND osm <> lower($osm) THEN 'of OSM ' || osm
    END AS aside
FROM priced
