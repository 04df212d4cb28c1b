-- search_effort: how good and how fast each graph is with each effort, and exact search beside them.
-- reads    search_effort
-- returns  its rows, those of a curve together: one graph, one kind of re-ranking, one metric and k, by expansion
SELECT encoder, metric, relevance, k, dtype, pca, connectivity, rerank, expansion_search, value, ci_low, ci_high, queries_per_second, is_pareto,
       graph_bytes / 1e6 AS graph_megabytes, build_seconds, threads, n_queries, gallery_size
FROM search_effort
ORDER BY encoder, metric, relevance, k, dtype = 'exact', dtype, pca, connectivity, rerank, expansion_search
