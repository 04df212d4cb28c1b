-- problem_rows: the first $n rows of each problem that cbmir manifest check found, in the order in which they were written.
-- reads    problems(problem, group_id, image_key, detail)
-- returns  one row a problem's row: (problem, detail)
SELECT problem, detail FROM problems QUALIFY row_number() OVER (PARTITION BY problem) <= $n
