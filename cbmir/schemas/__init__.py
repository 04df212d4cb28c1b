"""The contracts between the stages, as pyarrow schemas.

Every dataset of a study has one schema here, and every field its comment. `check` compares a table with its
contract; `describe` prints one for people. This package imports nothing else of cbmir.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

from cbmir.schemas.figures import CLASSIFICATION, COMPARISONS, CONFUSIONS, HUBNESS, METRICS, PREDICTIONS, QUERY_METRICS
from cbmir.schemas.images import FAILURES, IMAGE_FACTS, MANIFEST, NEIGHBORS, PACKED, PROBLEMS, REMARKS, embeddings
from cbmir.schemas.keys import block_name, image_key
from cbmir.schemas.references import PUBLISHED
from cbmir.schemas.studies import FITS, IMAGE_SIZES, SCALING_COSTS, SEARCH_EFFORT, VANISHED
from cbmir.schemas.volumes import MATCHED_SLICES, SLICES

__all__ = [
    "CLASSIFICATION",
    "COMPARISONS",
    "CONFUSIONS",
    "CONTRACTS",
    "FAILURES",
    "FITS",
    "HUBNESS",
    "IMAGE_FACTS",
    "IMAGE_SIZES",
    "MANIFEST",
    "MATCHED_SLICES",
    "METRICS",
    "NEIGHBORS",
    "PACKED",
    "PREDICTIONS",
    "PROBLEMS",
    "PUBLISHED",
    "QUERY_METRICS",
    "REMARKS",
    "SCALING_COSTS",
    "SEARCH_EFFORT",
    "SLICES",
    "VANISHED",
    "ContractError",
    "block_name",
    "check",
    "describe",
    "embeddings",
    "image_key",
]


class ContractError(ValueError):
    """A table that does not keep its contract; the message names dataset, column, found and expected."""

    exit_code = 2


CONTRACTS: dict[str, pa.Schema] = {
    "manifest": MANIFEST,
    "remarks": REMARKS,
    "image_facts": IMAGE_FACTS,
    "problems": PROBLEMS,
    "packed": PACKED,
    "packed_failures": FAILURES,
    "failures": FAILURES,
    "neighbors": NEIGHBORS,
    "query_metrics": QUERY_METRICS,
    "metrics": METRICS,
    "comparisons": COMPARISONS,
    "classification": CLASSIFICATION,
    "predictions": PREDICTIONS,
    "confusions": CONFUSIONS,
    "hubness": HUBNESS,
    "scaling": METRICS,
    "scaling_costs": SCALING_COSTS,
    "vanished": VANISHED,
    "fits": FITS,
    "search_effort": SEARCH_EFFORT,
    "image_sizes": IMAGE_SIZES,
    "slices": SLICES,
    "matched_slices": MATCHED_SLICES,
}
_OPEN = {"manifest"}  # may carry further columns


def check(table: pa.Table, dataset: str, contract: pa.Schema | None = None) -> pa.Table:
    """`table` unchanged if it keeps the contract of `dataset`, else ContractError naming the first breach.

    Column order does not matter; only the manifest may hold further columns; a column that the contract calls
    required holds no null.
    """
    contract = contract or CONTRACTS[dataset]
    for field in contract:
        if field.name not in table.column_names:
            have = ", ".join(table.column_names)
            raise ContractError(f"{dataset}: column '{field.name}' is missing (found: {have}); expected {field.type}")
        column = table.column(field.name)
        if not _same_type(column.type, field.type):
            raise ContractError(f"{dataset}: column '{field.name}' is {column.type}; expected {field.type}")
        if not field.nullable and column.null_count:
            raise ContractError(f"{dataset}: column '{field.name}' has {column.null_count} nulls; expected none")
    extra = [name for name in table.column_names if name not in contract.names]
    if extra and dataset not in _OPEN:
        raise ContractError(f"{dataset}: unexpected column '{extra[0]}'; expected only {', '.join(contract.names)}")
    return table


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    if pat.is_fixed_size_list(expected):
        same_shape = pat.is_fixed_size_list(found) and found.list_size == expected.list_size
        return same_shape and found.value_type == expected.value_type
    if pat.is_list(expected):
        return pat.is_list(found) and found.value_type == expected.value_type
    return found == expected


def describe(dataset: str) -> str:
    """The contract of `dataset` as lines 'column  type  comment'."""
    lines = []
    for field in CONTRACTS[dataset]:
        kind = f"{field.type}{'?' if field.nullable else ''}"
        lines.append(f"{field.name:<15} {kind:<24} {field.metadata[b'comment'].decode()}")
    return "\n".join(lines)
