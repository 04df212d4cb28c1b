"""What a report does not say: where images lie, and whose they are."""

import pytest

from cbmir.report.places import bare, hidden, veiled

FOLDERS = ("Jane", "Doe", "1980", "data", "Users", "server", "bucket", "secret")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("list_contains(labels, 'XR/chest/Nodule') AND split = 'train'",) * 2,
        ("labels @> ['XR/chest/Nodule', 'XR/chest/Mass']",) * 2,
        ("list_has_any(labels, ['XR/chest/No Finding', 'MR/brain/Glioma'])",) * 2,
        ("dataset = 'a/b' AND n / 2 > 1/2",) * 2,
        ("XR/chest/No Finding and 1/2",) * 2,
        ("hf://microsoft/BiomedCLIP/open_clip.bin",) * 2,
        ("mine=hf://org/repo/w.safetensors",) * 2,
        ("https://x.org/a/w.bin",) * 2,
        ("https://me:key@x.org/a/w.bin?X-Signature=abc", "https://x.org/a/w.bin"),
        ("see https://arxiv.org/abs/1 or hf://a/b/c",) * 2,
        ("uri LIKE '/data/p1/%'", "uri LIKE '…/%'"),
        ("uri LIKE '/data/Jane Doe 1980/%' AND split = 'train'", "uri LIKE '…/%' AND split = 'train'"),
        ("uri = 'it''s' OR uri = '/data/Jane''s/x.png'", "uri = 'it''s' OR uri = '…/x.png'"),
        ("uri LIKE 's3://bucket/Jane/%'", "uri LIKE '…/%'"),
        (r"uri LIKE 'C:\Users\Jane Doe\%'", "uri LIKE '…/%'"),
        ("uri LIKE 'file:///data/Jane Doe/%'", "uri LIKE '…/%'"),
        ("/data/Jane Doe 1980/w.pt", "…/w.pt"),
        ("weights=/data/Jane Doe/w.pt", "weights=…/w.pt"),
        ("s3://bucket/x/a.png", "…/a.png"),
        ("cannot open '/data/p1/a.png': gone", "cannot open '…/a.png': gone"),
    ],
)
def test_words_lose_folders_and_keep_labels_and_public_addresses(text, shown):
    assert bare(text) == shown


@pytest.mark.parametrize(
    "text, shown, nothing",
    [
        ("cannot open '/data/p1/a.png': gone", "cannot open '…/a.png': gone", "cannot open '…': gone"),
        ("cannot open /data/Jane Doe 1980/a.png", "cannot open …/a.png", "cannot open …"),
        ("cannot open /data/Jane Doe 1980/a b.png: no such file", "cannot open …/a b.png: no such file", "cannot open …: no such file"),
        ("cannot open 'a/Jane O'Doe/x.png'", "cannot open '…/x.png'", "cannot open '…'"),
        (r"cannot open C:\Users\Jane Doe\a.png", "cannot open …/a.png", "cannot open …"),
        (r"\\server\Jane Doe\x.png: gone", "…/x.png: gone", "…: gone"),
        ("file:///data/Jane Doe/x.png", "…/x.png", "…"),
        ("s3://bucket/Jane Doe/a.png is empty", "…/a.png is empty", "…"),
        ("~/Jane/x.png and ../secret/Doe/y.png", "…/y.png", "…"),
        ("don't read b/c, it's broken",) * 3,
        ("the file ends within its voxels",) * 3,
        ("no array 'x'; the file has a, b",) * 3,
        ("'/data/Jane/x.png' and '/data/Doe/y.png' are one file", "'…/x.png' and '…/y.png' are one file", "'…' and '…' are one file"),
    ],
)  # fmt: skip
def test_errors_lose_folders_whatever_they_are_called(text, shown, nothing):
    assert (veiled(text), hidden(text)) == (shown, nothing)
    assert not any(name in veiled(text) for name in FOLDERS)


def test_a_name_of_a_file_may_be_that_of_a_patient():
    assert hidden("'DOE^JANE.png' and 'b.dcm' are no images") == "'…' and '…' are no images"
