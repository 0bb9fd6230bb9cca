-- Purpose: rows of imported files that could not be taken, with their reason.
-- Grain: (market, mapping, file_digest, source_row, dataset, reason).
-- Columns:
--   market: name of the market
--   mapping: mapping of the import
--   dataset: what the row would have become; null where that is not known
--   source: source of the mapping
--   file: name of the file
--   file_digest: SHA-256 of the file, hexadecimal
--   source_row: row in the file, from 0
--   reason: why it could not be taken
--   text: the row as JSON
SELECT market, mapping, dataset, source, file, lower(hex(source_digest)) AS file_digest, source_row, reason, text
FROM raw.import_Quarantine
