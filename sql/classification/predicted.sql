-- predicted: the label with the highest score.
-- reads    scores(query_key, code, score, turn)
-- returns  one row a query with a score: (query_key, code)
-- edges    ties: the smaller turn (kNN: the label that had its votes first), then the first in the order of the labels
SELECT query_key, arg_min(code, {'a': -score, 'b': turn, 'c': code}) AS code
FROM scores
GROUP BY query_key
