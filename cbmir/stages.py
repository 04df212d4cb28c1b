"""Which command makes each dataset of a study."""

MADE_BY = {
    "manifest": "cbmir manifest",
    "remarks": "cbmir manifest",
    "image_facts": "cbmir manifest check",
    "problems": "cbmir manifest check",
    "packed": "cbmir pack",
    "packed_failures": "cbmir pack",
    "embeddings": "cbmir embed",
    "failures": "cbmir embed",
    "index": "cbmir index",
    "neighbors": "cbmir search",
    "query_metrics": "cbmir evaluate",
    "metrics": "cbmir evaluate",
    "comparisons": "cbmir evaluate",
    "confusions": "cbmir evaluate",
    "hubness": "cbmir evaluate",
    "classification": "cbmir evaluate or cbmir probe",
    "predictions": "cbmir probe",
    "as_published": "cbmir evaluate --as-published denner2024",
    "report": "cbmir report",
}
