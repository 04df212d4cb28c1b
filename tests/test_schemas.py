"""The contracts: each broken one way, and the message read."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmir.schemas import CONTRACTS, ContractError, check, describe, embeddings, image_key

ALL = {**CONTRACTS, "embeddings": embeddings(4)}
OPEN = {"manifest"}
ONE = {  # a value for each type that a contract uses
    pa.string(): "x",
    pa.binary(): b"x",
    pa.int16(): 1,
    pa.int32(): 1,
    pa.int64(): 1,
    pa.float32(): 0.5,
    pa.float64(): 0.5,
    pa.bool_(): True,
}


def example(contract: pa.Schema, rows: int = 2) -> pa.Table:
    """A table that keeps `contract`, without the schema's own metadata or nullability."""
    columns = {}
    for field in contract:
        if pa.types.is_fixed_size_list(field.type):
            values = [[0.5] * field.type.list_size] * rows
        elif pa.types.is_list(field.type):
            values = [[ONE[field.type.value_type]]] * rows
        else:
            values = [ONE[field.type]] * rows
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns)


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def pairs(*, nullable: bool | None = None) -> list[tuple[str, str]]:
    """(dataset, column) of every contract, or of its required or nullable columns."""
    return [(d, f.name) for d, c in ALL.items() for f in c if nullable is None or f.nullable == nullable]


@pytest.mark.parametrize("dataset", ALL)
def test_a_table_that_keeps_its_contract_comes_back_unchanged(dataset):
    table = example(ALL[dataset])
    assert check(table, dataset, ALL[dataset]) is table


@pytest.mark.parametrize("dataset", ALL)
def test_column_order_does_not_matter(dataset):
    table = example(ALL[dataset])
    backward = table.select(table.column_names[::-1])
    assert check(backward, dataset, ALL[dataset]) is backward


@pytest.mark.parametrize("dataset", ALL)
def test_no_rows_keep_a_contract(dataset):
    assert check(example(ALL[dataset], rows=0), dataset, ALL[dataset]).num_rows == 0


@pytest.mark.parametrize(("dataset", "column"), pairs())
def test_a_missing_column_is_named(dataset, column):
    table = example(ALL[dataset]).drop_columns(column)
    with pytest.raises(ContractError, match=rf"^{dataset}: column '{column}' is missing \(found: .*\); expected"):
        check(table, dataset, ALL[dataset])


@pytest.mark.parametrize(("dataset", "column"), pairs())
def test_a_wrong_type_is_named_with_the_expected_one(dataset, column):
    table = replaced(example(ALL[dataset]), column, pa.array([0, 1], pa.uint8()))
    with pytest.raises(ContractError, match=rf"^{dataset}: column '{column}' is uint8; expected ") as caught:
        check(table, dataset, ALL[dataset])
    assert str(caught.value).endswith(str(ALL[dataset].field(column).type))


@pytest.mark.parametrize(("dataset", "column"), pairs(nullable=False))
def test_a_null_in_a_required_column_is_counted(dataset, column):
    kind = ALL[dataset].field(column).type
    table = replaced(example(ALL[dataset]), column, pa.nulls(2, kind))
    with pytest.raises(ContractError, match=rf"^{dataset}: column '{column}' has 2 nulls; expected none"):
        check(table, dataset, ALL[dataset])


@pytest.mark.parametrize(("dataset", "column"), pairs(nullable=True))
def test_a_null_in_a_nullable_column_is_kept(dataset, column):
    kind = ALL[dataset].field(column).type
    table = replaced(example(ALL[dataset]), column, pa.nulls(2, kind))
    assert check(table, dataset, ALL[dataset])[column].null_count == 2


@pytest.mark.parametrize("dataset", sorted(set(ALL) - OPEN))
def test_an_extra_column_is_named(dataset):
    table = example(ALL[dataset]).append_column("colour", pa.array(["red", "blue"]))
    with pytest.raises(ContractError, match=rf"^{dataset}: unexpected column 'colour'; expected only "):
        check(table, dataset, ALL[dataset])


@pytest.mark.parametrize("dataset", sorted(OPEN))
def test_an_open_contract_keeps_further_columns(dataset):
    table = example(ALL[dataset]).append_column("age", pa.array([1, 2]))
    assert check(table, dataset)["age"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array([[0.5] * 3] * 2, pa.list_(pa.float32(), 3)), r"fixed_size_list<[a-z]+: float( not null)?>\[3\]"),
        (pa.array([[0.5] * 4] * 2, pa.list_(pa.float64(), 4)), r"fixed_size_list<[a-z]+: double( not null)?>\[4\]"),
        (pa.array([[0.5] * 4] * 2, pa.list_(pa.float32())), r"list<[a-z]+: float>"),
    ],
    ids=["another dimension", "another precision", "a list of any length"],
)
def test_vectors_of_another_shape_or_precision_are_refused(column, found):
    table = replaced(example(embeddings(4)), "embedding", column)
    with pytest.raises(ContractError, match=rf"^embeddings: column 'embedding' is {found}; expected .*\[4\]"):
        check(table, "embeddings", embeddings(4))


def test_the_name_of_a_lists_element_does_not_matter():
    labels = pa.array([["x"], []], pa.list_(pa.field("item", pa.string())))
    assert check(replaced(example(CONTRACTS["manifest"]), "labels", labels), "manifest")["labels"].type == labels.type


def test_embeddings_are_float32_or_float16():
    assert [embeddings(3, dtype=d).field("embedding").type.value_type for d in ("float32", "float16")] == [
        pa.float32(),
        pa.float16(),
    ]
    with pytest.raises(KeyError):
        embeddings(3, dtype="float64")


@pytest.mark.parametrize(("dataset", "column"), pairs())
def test_every_field_says_what_it_is(dataset, column):
    assert ALL[dataset].field(column).metadata[b"comment"].decode().strip()


@pytest.mark.parametrize("dataset", CONTRACTS)
def test_describe_has_a_line_a_column_with_its_comment(dataset):
    lines = describe(dataset).splitlines()
    for line, field in zip(lines, CONTRACTS[dataset], strict=True):
        assert line.split()[0] == field.name
        assert f"{field.type}{'?' if field.nullable else ''} " in line
        assert line.endswith(field.metadata[b"comment"].decode())


def test_image_key_has_its_published_value():
    # computed outside cbmir: printf 'demo/a.png' | b2sum -l 64, its first bit cleared
    assert image_key("demo/a.png") == 0x3A90_BC33_F5DC_A4D1  # sign bit was set
    assert image_key("vol/1#5") == 0x60BD_922F_3B76_A0FA


@given(st.text())
def test_image_key_is_the_hash_of_the_id_without_its_sign(image_id):
    whole = int(hashlib.blake2b(image_id.encode("utf-8"), digest_size=8).hexdigest(), 16)
    key = image_key(image_id)
    assert 0 < key < 2**63
    assert key == (whole % 2**63 or 1)


@given(st.lists(st.text(), unique=True, max_size=50))
def test_different_ids_have_different_keys(image_ids):
    assert len({image_key(image_id) for image_id in image_ids}) == len(image_ids)
