-- index_size_costs: what it costs to build and to search, and how much of the exact result is found, against the size of the gallery.
-- reads    scaling_costs
-- returns  one row a quantity, encoder, index and size: (quantity, ..., value: the median over the samples, low?, high?, seeds, recall_at, threads)
--          quantities: recall, expansion, build_seconds, query_milliseconds, graph_megabytes, vector_megabytes, peak_megabytes
-- edges    exact search has no peak_megabytes: its one pass is over all sizes
WITH measured AS (
    SELECT encoder, index, sampling, sample_size, gallery_size, recall_at, threads, recall, expansion_search::DOUBLE AS expansion, build_seconds,
           1e3 * search_seconds / nullif(n_queries, 0) AS query_milliseconds, graph_bytes / 1e6 AS graph_megabytes,
           vector_bytes / 1e6 AS vector_megabytes, peak_bytes / 1e6 AS peak_megabytes
    FROM scaling_costs
), quantities AS (
    UNPIVOT measured
    ON recall, expansion, build_seconds, query_milliseconds, graph_megabytes, vector_megabytes, peak_megabytes
    INTO NAME quantity VALUE value
)
SELECT quantity, encoder, index, sampling, round(avg(gallery_size))::BIGINT AS gallery_size, median(value) AS value,
       CASE WHEN count(*) > 1 THEN min(value) END AS low, CASE WHEN count(*) > 1 THEN max(value) END AS high,
       count(*) AS seeds, max(recall_at) AS recall_at, max(threads) AS threads
FROM quantities
GROUP BY quantity, encoder, index, sampling, sample_size
ORDER BY list_position(['recall', 'expansion', 'build_seconds', 'query_milliseconds', 'graph_megabytes', 'vector_megabytes', 'peak_megabytes'],
                       quantity), encoder, index, sampling, gallery_size
