"""Predicates over the manifest, and what is still to do."""

import pyarrow as pa
import pytest

from cbmir.errors import UserError
from cbmir.schemas import ContractError
from cbmir.select import attach_done, connect, keys_where, to_do
from cbmir.store import Study, path_name

#            key, split,   age,   labels
ROWS = [
    (40, "train", "51", ["XR/chest/Nodule"]),
    (10, "train", "7", []),
    (30, "test", "unknown", ["XR/chest/Nodule", "XR/chest/Mass"]),
    (20, "val", "33", ["XR/chest/Mass"]),
]


@pytest.fixture
def study(tmp_path) -> Study:
    """Four images; select needs no more of a manifest than these columns."""
    study = Study(str(tmp_path / "study"))
    keys, splits, ages, labels = zip(*ROWS, strict=True)
    table = pa.table(
        {
            "image_key": pa.array(keys, pa.int64()),
            "uri": [f"{key}.png" for key in keys],
            "split": splits,
            "age": ages,
            "labels": pa.array(labels, pa.list_(pa.string())),
        }
    )
    study.write_table(table, "manifest", "manifest.parquet")
    study.write_json({"rows": 4}, "manifest", "run.json")
    return study


def keys(study: Study, predicate: str) -> list[int]:
    return keys_where(study, predicate, role="gallery")["image_key"].to_pylist()


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("split = 'train'", [10, 40]),
        ("split IN ('train', 'val') AND image_key > 15", [20, 40]),
        ("true", [10, 20, 30, 40]),
        ("list_contains(labels, 'XR/chest/Mass')", [20, 30]),
        ("len(list_filter(labels, lambda x: x LIKE '%Nodule')) > 0", [30, 40]),
        ("split = 'train' -- and not the rest", [10, 40]),
        ("try_cast(age AS INTEGER) > 30", [20, 40]),
        ("image_key = (SELECT max(image_key) FROM manifest)", [40]),
        ("split = 'train' OR split = 'val'", [10, 20, 40]),
    ],
)
def test_a_predicate_selects_ascending_keys(study, predicate, expected):
    assert keys(study, predicate) == expected


def test_keys_are_int64(study):
    assert keys_where(study, "true", role="gallery").schema == pa.schema([("image_key", pa.int64())])


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("splt = 'train'", r"no column 'splt' in the manifest; nearest: 'split'; columns: image_key, uri, split, age"),
        ('split = "train"', r"no column 'train' in the manifest; "),
        ("split =", r"is not a SQL predicate over the manifest: Parser Error: syntax error"),
        ("", r"is not a SQL predicate over the manifest: Parser Error"),
        ("   ", r"is not a SQL predicate over the manifest: Parser Error"),
        ("split = 'train", r"is not a SQL predicate over the manifest: Parser Error: unterminated"),
        ("split = $split", r"is not a SQL predicate over the manifest: Invalid Input Error"),
        ("count(*) > 1", r"is not a SQL predicate over the manifest: Binder Error"),
        ("nosuch(split)", r"is not a SQL predicate over the manifest: Catalog Error"),
        ("age::INTEGER > 30", r"is not a SQL predicate over the manifest: Conversion Error: .*'unknown'"),
        ("split", r"is not a SQL predicate over the manifest: Conversion Error"),
    ],
)
def test_what_duckdb_does_not_accept_is_said_in_one_line(study, predicate, message):
    with pytest.raises(UserError, match=message) as caught:
        keys(study, predicate)
    assert str(caught.value).startswith(f"--gallery {predicate!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "predicate",
    [
        "true; DROP VIEW manifest",
        "true); DROP VIEW manifest; SELECT (true",
        "true) UNION SELECT 99::BIGINT WHERE (true",
        "true) OR (true",
        "true LIMIT 1",
        "true ORDER BY split",
        "true, false",
        "(split = 'train'",
        "split = 'train')",
    ],
)
def test_a_predicate_is_one_expression_and_nothing_behind_it(study, predicate):
    with pytest.raises(UserError, match="is not a SQL predicate over the manifest"):
        keys(study, predicate)


def test_an_empty_selection_says_of_how_many_and_which_splits_there_are(study):
    with pytest.raises(
        UserError,
        match=r"^the queries is empty: split = 'Test' selects none of the manifest's 4 images; "
        r"splits there: test, train, val; choose with --queries \"SQL predicate\"$",
    ):
        keys_where(study, "split = 'Test'", role="queries")


def test_an_unfinished_manifest_is_refused(study):
    study.delete("manifest", "run.json")
    with pytest.raises(ContractError, match="manifest is unfinished"):
        keys(study, "true")
    with pytest.raises(ContractError, match="manifest is unfinished"):
        list(to_do(study, ["a"], rows=10))


def write_done(study: Study, encoder: str, part: str, *, embedded=(), failed=()) -> None:
    """One part of an encoder's embeddings and failures, with no more columns than the anti-join reads."""
    for dataset, done in (("embeddings", embedded), ("failures", failed)):
        if done:
            table = pa.table({"image_key": pa.array(done, pa.int64())})
            study.write_table(table, dataset, f"encoder={path_name(encoder)}", f"{part}.parquet")


def needs(study: Study, encoders: list[str], *, rows: int = 100) -> dict[int, int]:
    table = pa.Table.from_batches(to_do(study, encoders, rows=rows), NEED)
    assert len(set(table["image_key"].to_pylist())) == table.num_rows  # no image twice
    return dict(zip(table["image_key"].to_pylist(), table["need"].to_pylist(), strict=True))


NEED = pa.schema([("image_key", pa.int64()), ("uri", pa.string()), ("need", pa.int64())])


def test_at_first_everything_is_to_do(study):
    assert needs(study, ["a", "b", "c"]) == dict.fromkeys([10, 20, 30, 40], 0b111)


def test_an_image_needs_the_encoders_that_have_neither_a_vector_nor_a_failure_of_it(study):
    write_done(study, "timm:a@64~random0", "one", embedded=[10, 20])
    write_done(study, "timm:a@64~random0", "two", embedded=[40], failed=[30])
    write_done(study, "open_clip:b/c", "one", embedded=[10], failed=[20])
    encoders = ["timm:a@64~random0", "open_clip:b/c", "new"]
    assert needs(study, encoders) == {10: 0b100, 20: 0b100, 30: 0b110, 40: 0b110}
    assert needs(study, encoders[::-1]) == {10: 0b001, 20: 0b001, 30: 0b011, 40: 0b011}
    assert needs(study, encoders[:1]) == {}


def test_an_image_written_twice_or_no_longer_in_the_manifest_changes_nothing(study):
    write_done(study, "a", "one", embedded=[10, 20, 77])
    write_done(study, "a", "again", embedded=[10, 20], failed=[10])
    assert needs(study, ["a"]) == {30: 1, 40: 1}
    assert needs(study, ["a", "b"]) == {10: 0b10, 20: 0b10, 30: 0b11, 40: 0b11}


def test_sixty_encoders_have_a_bit_each(study):
    write_done(study, "e59", "one", embedded=[10])
    found = needs(study, [f"e{i}" for i in range(60)])
    assert found[10] == 2**59 - 1
    assert found[20] == 2**60 - 1


def test_an_unfinished_file_counts_as_not_done(study):
    write_done(study, "a", "one", embedded=[10])
    study.write_bytes(b"half a file", "embeddings", "encoder=a", "two.parquet.tmp-0123")
    assert needs(study, ["a"]) == dict.fromkeys([20, 30, 40], 1)


def test_batches_hold_key_address_and_need(study):
    batches = list(to_do(study, ["a"], rows=3))
    assert all(batch.schema == NEED and batch.num_rows <= 3 for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert {row["image_key"]: row["uri"] for row in rows} == {key: f"{key}.png" for key, *_ in ROWS}


def test_done_tells_failures_from_embeddings(study):
    write_done(study, "a", "one", embedded=[10, 20], failed=[30])
    connection = connect()
    attach_done(connection, "done", study, "a")
    assert connection.sql("SELECT * FROM done ORDER BY image_key").fetchall() == [
        (10, False),
        (20, False),
        (30, True),
    ]
    attach_done(connection, "none", study, "b")
    assert connection.sql("SELECT * FROM none").fetchall() == []
