-- averages: sums over queries -> figures. The only place where anything is averaged.
--          micro = mean over queries; macro = mean over classes of the mean over each class's queries
--          std = sqrt(sum((value - mean)^2) / (n - 1)) over queries; macro: mean over classes of that within each
-- reads    profile_sums(metric, k?, profile, n, total, squares, chance?), profile_cells
-- returns  (metric, k?, slice_by, slice, average, value, std?, chance?)
-- edges    a query in several classes counts in each of their means; the std of one query is unknown (NULL), and left out of a mean of stds
WITH cell_sums AS (
    SELECT s.metric, s.k, c.slice_by, c.slice, c.average, c.class,
           sum(s.n) AS n, sum(s.total) AS total, sum(s.squares) AS squares, sum(s.chance) AS chance
    FROM profile_sums AS s
    JOIN profile_cells AS c USING (profile)
    GROUP BY ALL
), cell_means AS (
    SELECT *, total / n AS mean, squares - total * total / n AS scatter FROM cell_sums
)
SELECT metric, k, slice_by, slice, average,
       avg(mean) AS value,
       avg(CASE WHEN n > 1 THEN CASE WHEN scatter > 1e-12 * squares THEN sqrt(scatter / (n - 1)) ELSE 0 END END) AS std,
       avg(chance / n) AS chance
FROM cell_means
GROUP BY metric, k, slice_by, slice, average
