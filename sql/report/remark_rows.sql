-- remark_rows: where the first remark of each kind stands.
-- reads    remarks(remark, file, row, detail), in the order in which they were made
-- returns  one row a kind: (remark, row: of the file, its header being row 1; null where it stands in none)
SELECT remark, "row" FROM remarks QUALIFY row_number() OVER (PARTITION BY remark) = 1
