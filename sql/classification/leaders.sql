-- leaders: the label that has the most votes of the first k neighbors, for every k from 1 to $depth.
-- reads    votes
-- returns  (query_key, code, first_k, last_k): who leads for these k; a leader that gets another vote begins a new row
-- edges    ties: the label that had that many votes first, that is, with the nearer neighbors; two at one rank (a neighbor with several labels):
--          the first in the order of the labels. No neighbor among the first k has a label: no row, nothing is predicted
WITH counted AS (
    SELECT query_key, code, votes, first_k,
           max(votes) OVER (PARTITION BY query_key ORDER BY first_k, code ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS most_before
    FROM votes
)
SELECT query_key, code, first_k,
       (coalesce(lead(first_k) OVER (PARTITION BY query_key ORDER BY first_k), $depth + 1) - 1)::INTEGER AS last_k
FROM counted
WHERE most_before IS NULL OR votes > most_before
