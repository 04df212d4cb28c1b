-- score_counts_by_k: how many queries give a label a score, for every k from 1 to $depth: what an area under a curve needs to know.
-- reads    votes, truths
-- returns  (k, code, score: votes of the first k, positives: queries with that score that have the label, negatives: those that have not)
-- how      each row of votes adds 1 at its first k and takes it away behind its last: the running sum is the count at every k
-- edges    scores of 0 have no row: roc_auc infers them
WITH steps AS (
    SELECT v.code, v.votes, k, sum(step) FILTER (WHERE t.code IS NOT NULL) AS positives, sum(step) FILTER (WHERE t.code IS NULL) AS negatives
    FROM (SELECT query_key, code, votes, first_k AS k, 1 AS step FROM votes
          UNION ALL
          SELECT query_key, code, votes, last_k + 1, -1 FROM votes WHERE last_k < $depth) AS v
    LEFT JOIN truths AS t USING (query_key, code)
    GROUP BY v.code, v.votes, k
), grid AS (
    SELECT code, votes, unnest(range(min(k), $depth + 1)) AS k FROM steps GROUP BY code, votes
), running AS (
    SELECT k, code, votes,
           sum(coalesce(s.positives, 0)) OVER so_far AS positives,
           sum(coalesce(s.negatives, 0)) OVER so_far AS negatives
    FROM grid
    LEFT JOIN steps AS s USING (code, votes, k)
    WINDOW so_far AS (PARTITION BY code, votes ORDER BY k)
)
SELECT k::INTEGER AS k, code, votes::DOUBLE AS score, positives::BIGINT AS positives, negatives::BIGINT AS negatives
FROM running
WHERE positives + negatives > 0
