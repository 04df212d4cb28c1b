"""Parts of the search-effort study: what is tried, how it is measured, and which of it is worth choosing."""
