-- One path a lake: a row of another derivation contradicts the one that is there and is quarantined.
SELECT source_row, asset, 'derived' AS kind, price, low, high, period, timestamp, asset || ':derived:' || timestamp AS identity
FROM steps
