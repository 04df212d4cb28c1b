"""Volumes looked up by a slice, a range of slices, a whole volume or a volume of the study, against a triple loop over vectors."""

import base64
import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import cbmir
from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.querying.ranges import SliceRange, parse_range, parted
from cbmir.querying.volume_inputs import stored_volumes, volumes_from_arguments
from cbmir.querying.votes import vote
from cbmir.report.pictures import thumbnail as page_thumbnail
from cbmir.store import Study
from cbmir.volume_lookup import VolumeLookup
from cbmir.volumetric import slices as slices_module
from cbmir.volumetric.catalog import write_catalog
from cbmir.volumetric.slices import write_slices
from tests.image_files import as_volume, dicom, dicom_bytes, nifti, npz, pillow
from tests.studies import make_study
from tests.volumes_by_hand import ENCODER, distance

GALLERY, QUERIES = 8, 3
FAILED = ("hand/v02#1", "hand/v09#0")  # slices without a vector


def picture(seed: int) -> np.ndarray:
    """(24, 20) uint8 of smooth noise that holds 0 and 255."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 5), np.uint8)
    smooth = np.array(Image.fromarray(rough).resize((20, 24), Image.Resampling.BICUBIC))
    smooth[0, 0], smooth[-1, -1] = 0, 255
    return smooth


def planes(volume: int) -> np.ndarray:
    """(4 to 6, 24, 20) uint8: what the slices of one volume show."""
    return np.stack([picture(100 * volume + i) for i in range(4 + volume % 3)])


def voxels(shown: np.ndarray) -> np.ndarray:
    """Planes (n, H, W) as they are to be seen -> a canonical volume (W, H, n) that has them as axial slices."""
    return np.concatenate([as_volume(plane) for plane in shown], axis=2)


def embedded(shown) -> list[np.ndarray]:
    """Planes -> the vectors of pixels32, by Pillow alone."""
    small = [Image.fromarray(plane).resize((32, 32), Image.Resampling.BICUBIC) for plane in shown]
    return [np.asarray(image, np.float32).ravel() / 255 for image in small]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A study of drawn NIfTI volumes, two slices of which have no vector, and its study of volumes; the files beside it."""
    top = tmp_path_factory.mktemp("volumes")
    rows, vectors = [], {}
    for v in range(GALLERY + QUERIES):
        file = top / f"v{v:02d}.nii.gz"
        file.write_bytes(nifti(voxels(planes(v)), packed=True))
        said = {"split": "train" if v < GALLERY else "test", "modality": "MR", "region": "brain",
                "labels": [f"MR/brain/class {v % 2}"], "volume_id": f"hand/v{v:02d}"}  # fmt: skip
        for i, vector in enumerate(embedded(planes(v))):
            image_id = f"hand/v{v:02d}#{i}"
            rows.append(said | {"image_id": image_id, "slice": i, "uri": f"{file}#axis=2&slice={i}"})
            vectors[image_id] = vector
    for image_id in FAILED:
        del vectors[image_id]
    study = make_study(top / "study", rows, vectors, files=3)
    volumes, _, _ = write_catalog(study)
    write_slices(volumes, ENCODER)
    return top


@pytest.fixture
def study(root) -> Study:
    return Study(str(root / "study"))


def stored(volume: int) -> dict[int, np.ndarray]:
    """Number -> vector of the slices of one volume that have one."""
    return {
        i: v.astype(float) for i, v in enumerate(embedded(planes(volume))) if f"hand/v{volume:02d}#{i}" not in FAILED
    }


def oracle(asked: dict, *, k: int, matches: int = 3, gallery=range(GALLERY)) -> list[tuple[str, float, list]]:
    """Number -> vector of the query's slices -> (id, distance, [(number, number there, distance), ...]) of the k nearest volumes, by plain loops."""
    ranked = []
    for volume in gallery:
        total, pairs = 0.0, []
        for mine, vector in asked.items():
            near = [(distance(vector, theirs, "cos"), mine, there) for there, theirs in stored(volume).items()]
            total += min(near)[0]
            pairs += near
        chosen = []
        for far, mine, there in sorted(
            pairs, key=lambda pair: (round(pair[0], 9), list(asked).index(pair[1]), pair[2])
        ):
            if len(chosen) < matches and all(mine != a and there != b for a, b, _ in chosen):
                chosen.append((mine, there, far))
        ranked.append((total / len(asked), f"hand/v{volume:02d}", chosen))
    return [(name, far, pairs) for far, name, pairs in sorted(ranked)[:k]]


def same(answer, expected) -> None:
    assert answer.error is None
    assert [n["image_id"] for n in answer.neighbors] == [name for name, _, _ in expected]
    assert [n["rank"] for n in answer.neighbors] == list(range(1, len(expected) + 1))
    np.testing.assert_allclose([n["distance"] for n in answer.neighbors], [d for _, d, _ in expected], atol=2e-6)
    for neighbor, (_, _, pairs) in zip(answer.neighbors, expected, strict=True):
        assert [(p["query_slice"], p["slice"]) for p in neighbor["slices"]] == [(a, b) for a, b, _ in pairs]
        np.testing.assert_allclose([p["distance"] for p in neighbor["slices"]], [d for _, _, d in pairs], atol=2e-6)


def numbered(shown, numbers=None) -> dict:
    vectors = [vector.astype(float) for vector in embedded(shown)]
    return dict(zip(numbers or range(len(vectors)), vectors, strict=True))


def asked(study, *arguments, k: int = 4, said=None, **options) -> list:
    queries = volumes_from_arguments([str(a) for a in arguments], say=(said if said is not None else []).append)
    return list(VolumeLookup(study, ENCODER).answers(queries, k=k, **options))


def run(*arguments) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def put_series(directory: Path, shown: np.ndarray, names: list[str], *, series: str = "1.2.3") -> None:
    """Planes as DICOM files of one series, the nth at 2.5 n mm, under the nth name."""
    directory.mkdir(parents=True, exist_ok=True)
    for n, (plane, name) in enumerate(zip(shown, names, strict=True)):
        header = {"SeriesInstanceUID": series, "PatientID": "SECRET7", "PatientName": "Meier^Anna", "Modality": "MR",
                  "ImagePositionPatient": [0, 0, 2.5 * n], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}  # fmt: skip
        (directory / name).write_bytes(dicom_bytes(dicom(plane, **header)))


# --- what is found ------------------------------------------------------------------------------------------------------


def test_a_slice_finds_the_volume_with_the_nearest_slice(study, root, tmp_path):
    shown = planes(9)
    (tmp_path / "a.png").write_bytes(pillow(shown[2], "PNG"))
    (tmp_path / "b.dcm").write_bytes(dicom_bytes(dicom(shown[2])))
    by_slice, by_picture, by_dicom = asked(
        study, f"{root}/v09.nii.gz#axis=2&slice=2", tmp_path / "a.png", tmp_path / "b.dcm", k=GALLERY
    )
    same(by_slice, oracle(numbered(shown[2:3], [2]), k=GALLERY))
    for answer in (by_picture, by_dicom):
        same(answer, oracle(numbered(shown[2:3], [None]), k=GALLERY))
    assert [len(n["slices"]) for n in by_slice.neighbors] == [1] * GALLERY


def test_a_slice_of_the_gallery_is_found_at_distance_0(study, root):
    (answer,) = asked(study, f"{root}/v03.nii.gz#slice=1", k=1)
    (found,) = answer.neighbors
    assert found["image_id"] == found["volume_id"] == "hand/v03"
    assert found["distance"] == pytest.approx(0, abs=1e-6)
    assert (found["labels"], found["split"], found["modality"], found["region"]) == (
        ["MR/brain/class 1"], "train", "MR", "brain",
    )  # fmt: skip
    assert (found["n_slices"], found["uri"]) == (4, f"{root}/v03.nii.gz#axis=2&slice=2")
    (pair,) = found["slices"]
    assert pair["query_uri"] == pair["uri"] == f"{root}/v03.nii.gz#axis=2&slice=1"


@pytest.mark.parametrize(
    "part, numbers",
    [
        ("", [0, 1, 2, 3, 4]),
        ("#axis=2", [0, 1, 2, 3, 4]),
        ("#axis=2&slice=1-3", [1, 2, 3]),
        ("#slice=0-4/2", [0, 2, 4]),
        ("#axis=2&slice=1-4/2", [1, 3]),
        ("#slice=3-3", [3]),
        ("#slice=0-1&window=127.5,255", [0, 1]),
    ],
)
def test_whole_volumes_and_ranges_are_the_triple_loop(study, root, part, numbers):
    (answer,) = asked(study, f"{root}/v10.nii.gz{part}", k=5)
    same(answer, oracle(numbered(planes(10)[numbers], numbers), k=5))


def test_another_axis_has_other_slices(study, root):
    shown = [voxels(planes(8))[:, i, :][::-1, ::-1].T for i in range(24)]
    whole, some = asked(study, f"{root}/v08.nii.gz#axis=1", f"{root}/v08.nii.gz#axis=1&slice=5-20/5", k=3)
    same(whole, oracle(numbered(shown), k=3))
    same(some, oracle(numbered([shown[i] for i in (5, 10, 15, 20)], [5, 10, 15, 20]), k=3))


def test_rows_of_arrays_and_frames_are_volumes(study, tmp_path):
    shown = planes(10)
    (tmp_path / "x.npz").write_bytes(npz(test_images=np.stack([np.zeros_like(shown), shown])))
    (tmp_path / "cine").write_bytes(dicom_bytes(dicom(shown, NumberOfFrames=len(shown))))
    row, frames = f"{tmp_path}/x.npz#array=test_images&row=1", tmp_path / "cine"
    found = asked(study, row, f"{row}&slice=1-3", f"{row}&slice=2", frames, f"{frames}#frame=1-3", f"{frames}#frame=2")
    for whole, some, one in (found[:3], found[3:]):
        same(whole, oracle(numbered(shown), k=4))
        same(some, oracle(numbered(shown[1:4], [1, 2, 3]), k=4))
        same(one, oracle(numbered(shown[2:3], [2]), k=4))


def test_a_row_along_another_axis(study, tmp_path):
    shown = planes(8)
    (tmp_path / "x.npz").write_bytes(npz(a=shown.transpose(1, 2, 0)[None]))
    (answer,) = asked(study, f"{tmp_path}/x.npz#array=a&row=0&axis=2", k=3)
    same(answer, oracle(numbered(shown), k=3))


def test_a_directory_of_dicom_files_is_one_volume_in_the_order_of_positions(study, tmp_path):
    shown = planes(10)
    put_series(tmp_path / "ct", shown, ["IM9", "b.dcm", "IM2", "a", "z.dicom"])
    (tmp_path / "ct" / "notes.txt").write_text("text")
    said = []
    whole, some, every = asked(study, tmp_path / "ct", f"{tmp_path}/ct#slice=1-3", f"{tmp_path}/ct/*", said=said)
    for answer in (whole, every):
        same(answer, oracle(numbered(shown), k=4))
    same(some, oracle(numbered(shown[1:4], [1, 2, 3]), k=4))
    assert whole.neighbors[0]["slices"][0]["query_uri"].startswith(f"{tmp_path}/ct/")
    assert said[0] == f"{tmp_path}/ct: 1 files are no images and passed over: .txt 1"


def test_a_directory_of_dicom_files_along_an_axis_of_the_patient(study, tmp_path):
    shown = planes(10)
    put_series(tmp_path / "ct", shown, ["IM9", "b.dcm", "IM2", "a", "z.dicom"])
    coronal = [np.stack([plane[row] for plane in shown])[::-1] for row in range(24)][::-1]  # superior at the top
    axial, whole, some, one = asked(
        study, f"{tmp_path}/ct#axis=2", f"{tmp_path}/ct#axis=1", f"{tmp_path}/ct#axis=1&slice=4-8/2", f"{tmp_path}/ct/a#axis=1&slice=6",
    )  # fmt: skip
    same(axial, oracle(numbered(shown), k=4))
    same(whole, oracle(numbered(coronal), k=4))
    same(some, oracle(numbered(coronal[4:9:2], [4, 6, 8]), k=4))
    same(one, oracle(numbered(coronal[6:7], [6]), k=4))


def test_a_directory_of_several_kinds_of_files(study, root, tmp_path):
    put_series(tmp_path / "in", planes(10), list("edcba"))
    shutil.copy(root / "v08.nii.gz", tmp_path / "in" / "v.nii.gz")
    (tmp_path / "in" / "p.png").write_bytes(pillow(picture(5), "PNG"))
    (tmp_path / "in" / "scout").write_bytes(dicom_bytes(dicom(picture(6), SeriesInstanceUID="9.9")))
    said = []
    series, one, volume = asked(study, tmp_path / "in", said=said)
    same(series, oracle(numbered(planes(10)), k=4))
    same(one, oracle(numbered([picture(5)], [None]), k=4))
    same(volume, oracle(numbered(planes(8)), k=4))
    assert said == [f"{tmp_path}/in: 1 of 6 DICOM files are no slices of the volume and passed over"]


def test_a_series_of_an_object_store(study, s3):
    shown = planes(9)
    s3.put("v.nii.gz", nifti(voxels(shown), packed=True))
    for n, plane in enumerate(shown):
        header = {"SeriesInstanceUID": "1.2", "ImagePositionPatient": [0, 0, -n], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}  # fmt: skip
        s3.put(f"ct/IM{n}", dicom_bytes(dicom(plane, **header)))
    series, some = asked(study, s3.address("ct"), f"{s3.address('v.nii.gz')}#slice=1-2")
    same(series, oracle(numbered(shown[::-1]), k=4))
    same(some, oracle(numbered(shown[1:3], [1, 2]), k=4))


def test_a_stored_volume_is_asked_with_its_vectors_and_does_not_find_itself(study, monkeypatch):
    monkeypatch.setattr("cbmir.querying.encoding.rebuild", lambda *a: pytest.fail("no pixel is needed"))
    queries = stored_volumes(["hand/v03", "hand/v08"], None) + stored_volumes(["hand/v10"], "1-3/2")
    inside, outside, some = VolumeLookup(study, ENCODER).answers(queries, k=GALLERY)
    same(inside, oracle(stored(3), k=GALLERY, gallery=[v for v in range(GALLERY) if v != 3]))
    same(outside, oracle(stored(8), k=GALLERY))
    same(some, oracle({i: stored(10)[i] for i in (1, 3)}, k=GALLERY))
    assert [a.name for a in (inside, some)] == ["hand/v03", "hand/v10 slices 1-3/2"]


def test_slices_without_a_vector_are_left_out_and_said(study):
    lookup = VolumeLookup(study, ENCODER)
    (whole,) = lookup.answers(stored_volumes(["hand/v09"], None), k=3)
    same(whole, oracle(stored(9), k=3))
    assert whole.left_out == [f"slice 0: no vector by {ENCODER}"]
    (alone,) = lookup.answers(stored_volumes(["hand/v09"], "0"), k=3)
    assert alone.error == f"slice 0: no vector by {ENCODER}"


def test_a_gallery_that_is_too_large_to_hold_is_read_again_for_the_same_answers(study, root, monkeypatch):
    files = [f"{root}/v{v:02d}.nii.gz" for v in range(GALLERY + QUERIES)]
    queries = volumes_from_arguments(files * 2, say=[].append) + stored_volumes(["hand/v03"], None)
    queries += stored_volumes(["hand/v03", "hand/v03"], "1-2") + volumes_from_arguments(
        [f"{files[0]}#slice=9"], say=print
    )
    held = list(VolumeLookup(study, ENCODER).answers(queries, k=5))
    monkeypatch.setattr("cbmir.volumetric.reranking.HELD", 0)
    monkeypatch.setattr("cbmir.querying.gallery.MOST_HELD", 0)
    monkeypatch.setattr(slices_module, "BATCH_BYTES", 10_000)
    assert list(VolumeLookup(study, ENCODER).answers(queries, k=5)) == held
    assert [answer.name for answer in held] == [query.name for query in queries]
    for v, answer in enumerate(held[: GALLERY + QUERIES]):
        same(answer, oracle(numbered(planes(v)), k=5))
    assert held[-1].error == "read: slice 9 of a volume with 4 slices (0 to 3)"


def test_any_number_of_matches(study, root):
    (answer,) = asked(study, f"{root}/v10.nii.gz", k=2, matches=100)
    same(answer, oracle(numbered(planes(10)), k=2, matches=100))
    (answer,) = asked(study, f"{root}/v10.nii.gz", k=2, matches=1)
    same(answer, oracle(numbered(planes(10)), k=2, matches=1))


def test_a_gallery_of_volumes_is_a_predicate_over_their_manifest(study, root):
    lookup = VolumeLookup(study, ENCODER, gallery="list_contains(labels, 'MR/brain/class 1') AND n_slices > 4")
    (answer,) = lookup.answers(volumes_from_arguments([f"{root}/v10.nii.gz"], say=print), k=2)
    chosen = [v for v in range(GALLERY + QUERIES) if v % 2 == 1 and len(planes(v)) > 4]
    same(answer, oracle(numbered(planes(10)), k=2, gallery=chosen))


# --- ranges -------------------------------------------------------------------------------------------------------------


def test_ranges_by_hand():
    assert list(parse_range("20-26/2", "slice=").numbers) == [20, 22, 24, 26]
    assert list(parse_range("20-25/2", "slice=").numbers) == [20, 22, 24]
    assert list(parse_range("7", "slice=").numbers) == [7]
    assert [str(SliceRange(*ends)) for ends in ((1, 4), (1, 4, 2), (3, 3))] == ["1-4", "1-4/2", "3"]
    assert parted("a/v.nii#axis=1&slice=2-8/3&time=1") == (
        "a/v.nii", {"axis": "1", "slice": "2-8/3", "time": "1"},
    )  # fmt: skip
    assert parted("a#b/slice=3/c.png") == ("a#b/slice=3/c.png", {})
    assert parted("plain.png") == ("plain.png", {})


@pytest.mark.parametrize("text", ["", "a", "-3", "3-", "3-4/", "3-4-5", "3/2", "1.5", " 1"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(UserError, match=r"expected a number, FIRST-LAST or FIRST-LAST/EVERY"):
        parse_range(text, "slice=")


# --- the command --------------------------------------------------------------------------------------------------------


def base(root) -> list:
    return ["query", "--study", root / "study", "--encoder", ENCODER, "--volumes"]


def test_what_is_printed_can_be_read_by_a_program(root, capsys):
    assert run(*base(root), f"{root}/v10.nii.gz#slice=1-2", "--volume", "hand/v08", "-k", "2", "--matches", "2") == 0
    captured = capsys.readouterr()
    blocks = []
    for name, query, numbers in (
        (f"{root}/v10.nii.gz#slice=1-2", planes(10)[1:3], [1, 2]),
        ("hand/v08", planes(8), None),
    ):
        blocks.append(name)
        found = oracle(numbered(query, numbers), k=2, matches=2)
        for rank, (image_id, far, pairs) in enumerate(found, 1):
            blocks.append(f"    {rank}  {far:.4f}  {image_id}  MR/brain/class {int(image_id[-2:]) % 2}")
            blocks.append(f"       slices {', '.join(f'{a} ~ {b} ({d:.4f})' for a, b, d in pairs)}")
        shares = vote([[f"MR/brain/class {int(image_id[-2:]) % 2}"] for image_id, _, _ in found])
        blocks.append(f"  vote  {', '.join(f'{v.label} {v.share:.0%}' for v in shares)}")
    assert captured.out.splitlines() == blocks
    said = captured.err.splitlines()
    assert said[0] == f"query: {ENCODER}, by all slices of 8 volumes of the gallery split = 'train'"
    assert re.fullmatch(r"loaded in \d+\.\d s; 2 volumes, \d+ ms each", said[-1])


def test_tables_have_a_row_a_pair_of_slices(root, tmp_path):
    query = f"{root}/v10.nii.gz#slice=1-3"
    assert run(*base(root), query, "-k", "3", "--table", tmp_path / "t.parquet", "--csv", tmp_path / "knn.csv") == 0
    assert run(*base(root), query, "-k", "3", "--table", tmp_path / "t.csv") == 0
    found = oracle(numbered(planes(10)[1:4], [1, 2, 3]), k=3)
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    expected = [
        (query, rank, name, match, mine, there)
        for rank, (name, _, pairs) in enumerate(found, 1)
        for match, (mine, there, _) in enumerate(pairs, 1)
    ]
    names = ("query", "rank", "image_id", "match", "query_slice", "slice")
    assert [tuple(row[name] for name in names) for row in rows] == expected
    assert all(row["slice_uri"] == f"{root}/{row['image_id'][-3:]}.nii.gz#axis=2&slice={row['slice']}" for row in rows)
    assert all(row["query_uri"] == f"{root}/v10.nii.gz#axis=2&slice={row['query_slice']}" for row in rows)
    assert [row["n_slices"] for row in rows] == [len(planes(int(row["image_id"][-2:]))) for row in rows]
    read = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert list(read[0]) == list(rows[0])
    assert [np.float32(row["slice_distance"]) for row in read] == [np.float32(row["slice_distance"]) for row in rows]
    assert [row["labels"] for row in read] == ["|".join(row["labels"]) for row in rows]
    knn = (tmp_path / "knn.csv").read_text().splitlines()
    assert knn == ["query,1,2,3", f"{query},{','.join(name for name, _, _ in found)}"]


def test_the_page_shows_slices_side_by_side(root, tmp_path):
    query = f"{root}/v10.nii.gz#slice=0-4/2"
    assert run(*base(root), query, "--volume", "hand/v08", "-k", "2", "--html", tmp_path / "q.html") == 0
    page = (tmp_path / "q.html").read_text()
    items = re.findall(r"<li>\s*(<div class=\"frame\">.*?)</li>", page, re.DOTALL)
    shown = [re.findall(r'src="(data:image/jpeg[^"]+)"', item) for item in items]
    expected = []
    for volume, asked_with in ((10, numbered(planes(10)[::2], [0, 2, 4])), (8, stored(8))):
        for name, _, pairs in oracle(asked_with, k=2):
            for mine, there, _ in pairs:
                files = (f"{root}/v{volume:02d}.nii.gz#slice={mine}", f"{root}/{name[-3:]}.nii.gz#slice={there}")
                expected.append([page_thumbnail(file) for file in files])
    assert shown == expected
    marks = [[mark.removeprefix("query ") for mark in re.findall(r'class="mark">([^<]+)<', item)] for item in items]
    assert ["0"] in [pair[:1] for pair in marks]
    assert all(len(pair) == 2 for pair in marks)
    assert base64.b64decode(shown[0][0].partition(",")[2])[:2] == b"\xff\xd8"
    assert "v10.nii.gz#slice=0-4/2" in page
    assert str(root) not in page


def test_a_slice_that_cannot_be_read_is_left_out_with_exit_code_3(root, tmp_path, capsys):
    shown = planes(10)
    put_series(tmp_path / "ct", shown, list("abcde"))
    whole = (tmp_path / "ct" / "c").read_bytes()
    (tmp_path / "ct" / "c").write_bytes(whole[:-300])
    command = [
        *base(root),
        tmp_path / "ct",
        "-k",
        "3",
        "--table",
        tmp_path / "t.parquet",
        "--html",
        tmp_path / "q.html",
    ]
    assert run(*command) == 3
    captured = capsys.readouterr()
    assert "  left out: 1 slice, the first: slice 2: decode: " in captured.out
    assert "1 slices of 1 volumes are left out; the first, " in captured.err
    kept = [0, 1, 3, 4]
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    expected = oracle(numbered(shown[kept], kept), k=3)
    assert [row["image_id"] for row in rows if row["match"] == 1] == [name for name, _, _ in expected]
    np.testing.assert_allclose(
        [row["distance"] for row in rows if row["match"] == 1], [d for _, d, _ in expected], atol=2e-6
    )
    page = (tmp_path / "q.html").read_text()
    assert "1 of its slices cannot be read" in page
    for text in (captured.out, captured.err, page):
        assert not re.search("SECRET7|Meier|1\\.2\\.3", text)


def test_a_volume_that_cannot_be_read_is_said_in_its_place(root, tmp_path, capsys):
    (tmp_path / "bad.nii.gz").write_text("no volume")
    assert (
        run(*base(root), tmp_path / "bad.nii.gz", f"{root}/v10.nii.gz#slice=5-6", f"{root}/v10.nii.gz", "-k", "1") == 3
    )
    captured = capsys.readouterr()
    assert f"{tmp_path}/bad.nii.gz  cannot be read (" in captured.out
    assert "#slice=5-6  cannot be read (read: slices 5-6 of a volume with 5 slices (0 to 4))" in captured.out
    assert f"\n{root}/v10.nii.gz\n    1  " in captured.out
    assert "2 of 3 volumes cannot be read; the first, " in captured.err


def test_imported_vectors_are_asked_with_volumes_of_the_study_alone(root, tmp_path, capsys):
    copy = Path(shutil.copytree(root / "study", tmp_path / "copy"))
    file = copy / "embeddings" / f"encoder={ENCODER}" / "run.json"
    file.write_text(file.read_text().replace("{", '{"imported": ["a.h5"],', 1))
    command = ["query", "--study", copy, "--encoder", ENCODER, "-k", "1"]
    assert run(*command, "--volume", "hand/v08") == 0
    assert run(*command, "--volumes", f"{root}/v08.nii.gz") == 2
    assert "were imported from a.h5" in capsys.readouterr().err


MISUSE = {
    "nothing": ([], "nothing to ask with; expected a volume, a slice"),
    "missing file": (["{top}/none.nii.gz#slice=1-2"], "no file {top}/none.nii.gz#slice=1-2; expected a volume, a slice"),
    "range that is reversed": (["{top}/v.nii.gz#slice=3-1"], "slice=3-1 ends before it begins; expected FIRST-LAST, such as 1-3"),
    "range that is empty": (["{top}/v.nii.gz#slice="], "slice=; expected a number, FIRST-LAST or FIRST-LAST/EVERY"),
    "range in words": (["{top}/v.nii.gz#slice=1to3"], "slice=1to3; expected a number"),
    "every none": (["{top}/v.nii.gz#slice=1-3/0"], "slice=1-3/0 takes every slice number 0"),
    "number of a slice alone": (["{top}/v.nii.gz#3"], "a part of a file is named {top}/v.nii.gz#axis=2&slice=3"),
    "volumes in time": (["{top}/t.nii"], "{top}/t.nii holds 3 volumes in time; name one of them: {top}/t.nii#axis=2&time=0 (0 to 2)"),
    "arrays": (["{top}/b.npz"], "is a file of arrays (x 2 x 4 x 8 x 8); name one image: {top}/b.npz#array=x&row=0"),
    "several series": (["{top}/two"], "{top}/two holds 2 series of DICOM slices; expected one; give a directory"),
    "no series": (["{top}/loose"], "{top}/loose holds 2 DICOM files and no series of slices at several positions"),
    "several series along an axis": (["{top}/two#axis=1"], "{top}/two holds 2 series of DICOM slices; expected one"),
    "axis of a directory": (["{top}/one#axis=3"], "expected axis 0 (sagittal), 1 (coronal) or 2 (axial)"),
    "time of a directory": (["{top}/one#time=1"], "of a directory of DICOM files slices are named: {top}/one#slice=20-40"),
    "axis of a DICOM file": (["{top}/one/a#axis=1"], "names no slice; the whole volume is its directory's: {top}/one#axis=1"),
    "empty directory": (["{top}/empty"], "no volume below {top}/empty; expected DICOM files of one series"),
    "unknown id": (["--volume", "hand/v99", "-k", "1"], "no volume 'hand/v99' in {study}/volumes; nearest: 'hand/v"),
    "slices of a file": (["{top}/v.nii.gz", "--slices", "1-2"], "--slices 1-2 is of volumes of the study; expected --volume ID; of a file: FILE#"),
    "slices reversed": (["--volume", "hand/v01", "--slices", "2-1"], "--slices 2-1 ends before it begins"),
    "k of 0": (["{top}/v.nii.gz", "-k", "0"], "-k 0; expected 1 to 8, the embedded volumes of the gallery split = 'train'"),
    "no matches": (["{top}/v.nii.gz", "--matches", "0", "-k", "1"], "--matches 0; expected 1 to 100"),
    "index": (["{top}/v.nii.gz", "--index", "hnsw"], "--index hnsw; volumes are found by all of their slices, exactly; leave it out"),
    "gallery that is empty": (["{top}/v.nii.gz", "--gallery", "split = 'none'"], "the gallery is empty"),
    "table of another kind": (["{top}/v.nii.gz", "--table", "{top}/t.json"], "expected a name that ends in .csv or .parquet"),
}  # fmt: skip
UNREADABLE = {
    "range beyond the volume": (["{top}/v.nii.gz#slice=3-9"], "slices 3-9 of a volume with 5 slices (0 to 4)"),
    "slice beyond the volume": (["{top}/v.nii.gz#slice=5"], "slice 5 of a volume with 5 slices (0 to 4)"),
    "axis of a volume": (["{top}/v.nii.gz#axis=3"], "axis 3 of a volume; expected 0, 1 or 2"),
    "row beyond the array": (["{top}/b.npz#array=x&row=2"], "row 2 of an array with 2 rows"),
    "array that is not there": (["{top}/b.npz#array=y&row=0"], "no array 'y'; the file has x"),
    "frames beyond the file": (["{top}/cine.dcm#frame=1-3"], "frames 1-3 of a DICOM with 3 frames (0 to 2)"),
    "slices beyond the series": (["{top}/one#slice=1-2"], "slices 1-2 of a volume with 2 slices (0 to 1)"),
    "slices beyond a stored volume": (["--volume", "hand/v00", "--slices", "2-4"], "slices 2-4 of a volume with slices 0 to 3"),
    "no volume": (["{top}/text.nii.gz"], "cannot be read"),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Files that are no single volume."""
    top = tmp_path_factory.mktemp("odd")
    (top / "empty").mkdir()
    (top / "v.nii.gz").write_bytes(nifti(np.zeros((7, 6, 5), np.uint8), packed=True))
    (top / "t.nii").write_bytes(nifti(np.zeros((7, 6, 5, 3), np.uint8)))
    (top / "text.nii.gz").write_text("text")
    (top / "b.npz").write_bytes(npz(x=np.zeros((2, 4, 8, 8), np.uint8)))
    (top / "cine.dcm").write_bytes(dicom_bytes(dicom(np.zeros((3, 8, 8), np.uint8), NumberOfFrames=3)))
    put_series(top / "one", planes(8)[:2], ["a", "b"])
    put_series(top / "two", planes(8)[:2], ["a", "b"])
    put_series(top / "two", planes(9)[:2], ["c", "d"], series="4.5")
    put_series(top / "loose", planes(8)[:1], ["a"])
    put_series(top / "loose", planes(8)[:1], ["b"], series="4.5")
    return top


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_one_line_before_anything_is_loaded(root, odd, capsys, case):
    arguments, message = MISUSE[case]
    names = {"top": odd, "study": root / "study"}
    code = run(*base(root), *(a.format(**names) for a in arguments))
    captured = capsys.readouterr()
    assert code == 2
    assert message.format(**names) in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert captured.out == ""
    assert not re.search("SECRET7|Meier|4\\.5", captured.err)


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_not_there_is_said_in_its_place_and_by_the_exit_code(root, odd, capsys, case):
    arguments, message = UNREADABLE[case]
    arguments = [a.format(top=odd) for a in arguments]
    assert run(*base(root), *arguments, "-k", "1") == 2
    captured = capsys.readouterr()
    assert message in captured.out
    assert captured.err.splitlines()[-1].startswith("cbmir query: none of the 1 volumes can be read; the first, ")
    if "--volume" not in arguments:
        assert run(*base(root), *arguments, "--volume", "hand/v08", "-k", "1") == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["x.png", "--slices", "1-2"], "--slices 1-2 is of volumes; expected --volumes or --volume ID with it"),
        (["x.png", "--matches", "2"], "--matches 2 is of volumes"),
        ([], "nothing to ask with; expected an image or a directory of images"),
    ],
)
def test_flags_of_volumes_are_none_of_images(root, capsys, arguments, message):
    assert run("query", "--study", root / "study", "--encoder", ENCODER, *arguments) == 2
    assert message in capsys.readouterr().err


def test_studies_that_have_no_volumes_or_are_of_volumes_are_refused(root, tmp_path, capsys):
    query = ["--encoder", ENCODER, "--volumes", f"{root}/v08.nii.gz"]
    assert run("query", "--study", root / "study" / "volumes", *query) == 2
    assert "is a study of volumes; expected that of their slices: --study " in capsys.readouterr().err
    copy = Path(shutil.copytree(root / "study", tmp_path / "copy"))
    shutil.rmtree(copy / "volumes" / "slices")
    assert run("query", "--study", copy, *query) == 2
    assert "make it with: cbmir volumes" in capsys.readouterr().err
    shutil.rmtree(copy / "volumes")
    assert run("query", "--study", copy, *query) == 2
    assert "has no volumes yet" in capsys.readouterr().err


def test_an_id_of_two_datasets_is_refused(tmp_path):
    rows = [
        {"image_id": f"{d}/{i}", "dataset": d, "volume_id": "v", "slice": i, "split": "train"}
        for d in "ab"
        for i in range(2)
    ]
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(4) * n for n, row in enumerate(rows, 1)})
    volumes, _, _ = write_catalog(study)
    write_slices(volumes, ENCODER)
    lookup = VolumeLookup(study, ENCODER)
    with pytest.raises(UserError, match="volume 'v' stands for 2 volumes: a/v, b/v; give one of these ids"):
        lookup.answers(stored_volumes(["v"], None), k=1)
    (answer,) = lookup.answers(stored_volumes(["a/v"], None), k=1)
    assert [n["image_id"] for n in answer.neighbors] == ["b/v"]


# --- Python -------------------------------------------------------------------------------------------------------------


def test_a_frame_has_a_row_a_volume(root):
    study = cbmir.Study(str(root / "study"))
    name = f"{root}/v10.nii.gz#slice=1-3"
    frame = study.query(name, encoder=ENCODER, k=3, volumes=True)
    expected = oracle(numbered(planes(10)[1:4], [1, 2, 3]), k=3)
    assert list(frame.columns) == ["query", "rank", "distance", "image_id", "labels", "modality", "region", "split", "uri",
                                   "volume_id", "n_slices", "slices"]  # fmt: skip
    assert frame["image_id"].tolist() == [found for found, _, _ in expected]
    for pairs, (_, _, wanted) in zip(frame["slices"], expected, strict=True):
        assert [(p["query_slice"], p["slice"]) for p in pairs] == [(a, b) for a, b, _ in wanted]
    votes = vote(frame["labels"].tolist())
    assert frame.attrs == {"votes": {name: [[v.label, v.share] for v in votes]}, "failures": {}, "left_out": {}}


def test_arrays_are_volumes_and_stored_ones_are_named(root):
    study = cbmir.Study(str(root / "study"))
    by_file = study.query([f"{root}/v10.nii.gz", f"{root}/v10.nii.gz#slice=2"], encoder=ENCODER, k=3, volumes=True)
    by_array = study.query([planes(10), planes(10)[2]], encoder=ENCODER, k=3, volumes=True)
    assert by_array["query"].unique().tolist() == ["volumes[0]", "volumes[1]"]
    by_id = study.query(encoder=ENCODER, k=3, volume="hand/v10")
    by_ids = study.query(encoder=ENCODER, k=3, volume=["hand/v10"], slices="2")
    assert by_array["image_id"].tolist() == by_file["image_id"].tolist()
    assert by_id["image_id"].tolist() + by_ids["image_id"].tolist() == by_file["image_id"].tolist()
    np.testing.assert_allclose(by_array["distance"], by_file["distance"], atol=1e-7)
    np.testing.assert_allclose([*by_id["distance"], *by_ids["distance"]], by_file["distance"], atol=1e-6)


def test_what_is_left_out_warns_and_what_cannot_be_read_raises(root):
    study = cbmir.Study(str(root / "study"))
    with pytest.warns(
        UserWarning, match=r"1 slices are left out, see attrs\['left_out'\]; the first, hand/v09"
    ) as caught:
        frame = study.query(encoder=ENCODER, k=3, volume="hand/v09")
    assert caught[0].filename == __file__
    assert frame.attrs["left_out"] == {"hand/v09": [f"slice 0: no vector by {ENCODER}"]}
    with pytest.raises(UserError, match=r"cannot read .*slices 5-6 of a volume with 5 slices"):
        study.query(f"{root}/v10.nii.gz#slice=5-6", encoder=ENCODER, k=3, volumes=True)
    with pytest.raises(UserError, match="volumes is int; expected a path"):
        study.query(7, encoder=ENCODER, volumes=True)
    with pytest.raises(UserError, match="no volume was given"):
        study.query([], encoder=ENCODER, k=3, volumes=True)
    with pytest.raises(UserError, match="slices='1-2' is of volumes of the study"):
        study.query(f"{root}/v10.nii.gz#slice=1", encoder=ENCODER, slices="1-2")


def test_the_second_call_loads_nothing_until_the_study_changes(root, tmp_path, monkeypatch):
    copy = cbmir.Study(str(shutil.copytree(root / "study", tmp_path / "copy")))
    loaded = []
    monkeypatch.setattr(
        VolumeLookup,
        "__init__",
        lambda self, *a, init=VolumeLookup.__init__, **k: loaded.append(1) or init(self, *a, **k),
    )
    first = copy.query(encoder=ENCODER, k=3, volume="hand/v08")
    assert copy.query(encoder=ENCODER, k=3, volume="hand/v08").equals(first)
    copy.query(f"{root}/v10.nii.gz", encoder=ENCODER, k=5, volumes=True)
    assert len(loaded) == 1
    run = copy.run_of("volumes", "slices", f"encoder={ENCODER}")
    copy.write_json(run | {"fingerprint": "another"}, "volumes", "slices", f"encoder={ENCODER}", "run.json")
    copy.query(encoder=ENCODER, k=3, volume="hand/v08")
    assert len(loaded) == 2
