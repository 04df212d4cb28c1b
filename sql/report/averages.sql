-- averages: sums over queries -> figures. The only place where anything is averaged.
--          micro = mean over queries; macro = mean over classes of the mean over each class's queries
--          std = sqrt(sum((value - mean)^2) / (n - 1)) over queries; macro: mean over classes of that within each
-- reads    profile_sums(metric, k?, profile, n, total, squares, chance?), profile_cells
-- returns  (metric, k?, slice_by, slice, average, value, std?, chance?)
-- edges    a query in several classes counts in each of their means; the std of one query is unknown (NULL), and left out of a mean of stds
--          a chance that is unknown for one query is unknown for the mean
-- how      added up in whole 2^-60, as in staging/profile_sums.sql
WITH cell_sums AS (
    SELECT s.metric, s.k, c.slice_by, c.slice, c.average, c.class, sum(s.n) AS n,
           sum((s.total * 2 ** 60)::HUGEINT) / 2 ** 60 AS total,
           sum((s.squares * 2 ** 60)::HUGEINT) / 2 ** 60 AS squares,
           CASE WHEN count(s.chance) = count(*) THEN sum((s.chance * 2 ** 60)::HUGEINT) / 2 ** 60 END AS chance
    FROM profile_sums AS s
    JOIN profile_cells AS c USING (profile)
    GROUP BY ALL
), cell_means AS (
    SELECT *, total / n AS mean, squares - total * total / n AS scatter FROM cell_sums
), cell_stds AS (
    SELECT *, chance / n AS mean_chance,
           CASE WHEN n > 1 THEN CASE WHEN scatter > 1e-12 * squares THEN sqrt(scatter / (n - 1)) ELSE 0 END END AS std
    FROM cell_means
)
SELECT metric, k, slice_by, slice, average,
       sum((mean * 2 ** 60)::HUGEINT) / 2 ** 60 / count(*) AS value,
       sum((cell_stds.std * 2 ** 60)::HUGEINT) / 2 ** 60 / count(cell_stds.std) AS std,
       CASE WHEN count(mean_chance) = count(*) THEN sum((mean_chance * 2 ** 60)::HUGEINT) / 2 ** 60 / count(*) END AS chance
FROM cell_stds
GROUP BY metric, k, slice_by, slice, average
