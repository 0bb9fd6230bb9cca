-- Purpose: the Parquet files that count, from the manifest.
-- Grain: file.
-- Columns:
--   market: name of the market
--   dataset: layer and name, for example canonical/prices
--   from_block: first block it may hold; null for rows without blocks
--   to_block: last block it may hold, inclusive
--   rows: number of rows
--   bytes: size of the file in bytes
--   sha256: SHA-256 of the file, hex
--   stamp: rules version and raw digest that canonical files were built from
SELECT market, dataset, from_block, to_block, rows, bytes, sha256, stamp
FROM lake.files
