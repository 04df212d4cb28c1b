"""What is of another manifest, other vectors or other searches than there are now: one answer, whoever asks."""

import numpy as np
import pytest

from cbmir.errors import UserError
from cbmir.fresh import Now, is_fresh, outdated
from cbmir.paper import write_paper
from cbmir.removal import RemoveOptions, remove
from cbmir.removing.layout import FIGURES
from cbmir.removing.layout import places as all_places
from cbmir.removing.settle import settle_manifest
from cbmir.report import write_figures
from cbmir.stages import MADE_BY
from cbmir.store import Study, path_name, run_record
from cbmir.views import open_views
from tests.scaling_studies import effort_rows, empty_study, forest_rows, publish, scaling_rows
from tests.studies import add_embeddings

NAME = "open_clip:ViT/x"
OF_IMAGES = set(FIGURES) - {"volumes", "slices", "matched_slices"}


def embedded(study: Study, encoder: str = NAME, content: str = "first") -> str:
    run = run_record("embed", parameters={}, inputs={"content": content}, rows=0)
    study.write_json(run, "embeddings", f"encoder={path_name(encoder)}", "run.json")
    return run["fingerprint"]


def searched(study: Study, index: str = "exact", encoder: str = NAME) -> str:
    """run.json of a search of the vectors and the manifest that there are -> its fingerprint."""
    vectors = study.require("embeddings", f"encoder={path_name(encoder)}")["fingerprint"]
    inputs = {"embeddings": vectors, "manifest": study.require("manifest")["fingerprint"]}
    parameters = {
        "gallery": "split = 'train'",
        "queries": "split = 'test'",
        "exclude_same": [],
        "index": "exact",
        "k": 10,
        "as": index,
    }
    run = run_record("search", parameters=parameters, inputs=inputs, rows=0)
    study.write_json(run, "neighbors", path_name(encoder), index, "run.json")
    return run["fingerprint"]


def recorded(study: Study, *parts: str, inputs: dict[str, str], **parameters) -> str:
    run = run_record(parts[0], parameters=parameters, inputs=inputs, rows=0)
    study.write_json(run, *parts, "run.json")
    return run["fingerprint"]


@pytest.fixture
def study(tmp_path) -> Study:
    """One encoder with everything that can be made of it: run.json of all, figures of some."""
    study = empty_study(tmp_path / "study")
    settle_manifest(study)  # as the command leaves it
    vectors, manifest = embedded(study), study.require("manifest")["fingerprint"]
    of_vectors, of_search = {"embeddings": vectors, "manifest": manifest}, {f"{NAME} exact": searched(study)}
    place = path_name(NAME)
    recorded(study, "problems", inputs={"manifest": manifest})
    recorded(study, "query_metrics", place, "exact", inputs={"neighbors": of_search[f"{NAME} exact"]})
    publish(study, "metrics", forest_rows((NAME,)), inputs=of_search)
    study.write_json(study.require("metrics") | {"parameters": {"k": [1, 3, 5, 10]}}, "metrics", "run.json")
    for dataset in ("comparisons", "confusions", "hubness"):
        recorded(study, dataset, inputs=of_search)
    recorded(study, "classification", "knn", inputs=of_search | {"manifest": manifest})
    recorded(study, "classification", "probe", inputs=of_vectors, encoder=NAME)
    recorded(study, "predictions", f"encoder={place}", inputs=of_vectors, encoder=NAME, seeds=[0])
    published = {
        "manifest": manifest,
        "neighbors_val": of_search[f"{NAME} exact"],
        "neighbors_test": of_search[f"{NAME} exact"],
    }
    recorded(study, "as_published", "denner2024", place, "exact", inputs=published)
    for dataset in ("scaling_cells", "scaling_neighbors"):
        recorded(study, dataset, place, "exact", "random-s0-n1000", inputs=of_vectors)
    sample = {
        f"{NAME}/exact/random-s0-n1000": study.require("scaling_cells", place, "exact", "random-s0-n1000")[
            "fingerprint"
        ]
    }
    publish(study, "scaling", scaling_rows(labels=()), inputs=sample)
    for dataset in ("scaling_costs", "vanished", "fits"):
        publish(study, dataset, [], inputs=sample)
    for dataset in ("effort_points", "effort_graphs"):
        recorded(study, dataset, place, "hnsw", inputs=of_vectors, index="hnsw")
    publish(study, "search_effort", effort_rows(encoders=(NAME,)), inputs={NAME: f"{vectors} {manifest}"})
    publish(study, "image_sizes", [], inputs={NAME: vectors, "metrics": "of any evaluation"})
    recorded(study, "report", inputs={"manifest": manifest, "metrics": study.require("metrics")["fingerprint"]})
    write_figures(study)
    write_paper_of(study)
    return study


def write_paper_of(study: Study) -> None:
    now = ("manifest", "metrics", "scaling")
    recorded(study, "paper", inputs={name: study.require(name)["fingerprint"] for name in now}, relevance="label", k=1)


def places(study: Study) -> list[tuple[str, ...]]:
    return list(all_places(study, FIGURES))


def another_manifest(study: Study) -> None:
    study.write_json(study.require("manifest") | {"fingerprint": "another"}, "manifest", "run.json")


def test_every_kind_of_figures_is_in_the_study_of_these_tests(study):
    assert {parts[0] for parts in places(study)} == OF_IMAGES


def test_everything_is_fresh_at_first(study):
    assert [parts for parts in places(study) if not is_fresh(study, *parts)] == []
    assert open_views(study)[1] == []


def test_another_manifest_makes_everything_outdated_that_names_it_also_by_way_of_others(study):
    another_manifest(study)
    assert [parts[0] for parts in places(study) if is_fresh(study, *parts)] == [
        "image_sizes"
    ]  # which is of vectors alone


def test_other_vectors_make_everything_outdated_but_what_is_of_images(study):
    embedded(study, content="second")
    assert [parts[0] for parts in places(study) if is_fresh(study, *parts)] == ["problems"]


def test_another_search_of_the_same_makes_its_figures_outdated_and_no_studies(study):
    study.write_json(
        study.require("neighbors", path_name(NAME), "exact") | {"fingerprint": "k 5"},
        "neighbors",
        path_name(NAME),
        "exact",
        "run.json",
    )
    old = {parts[0] for parts in places(study) if not is_fresh(study, *parts)}
    assert old == {
        "query_metrics",
        "metrics",
        "comparisons",
        "confusions",
        "hubness",
        "classification",
        "as_published",
        "report",
        "figures",
        "paper",
    }


def test_a_search_that_nobody_has_scored_makes_nothing_outdated_and_is_told(study):
    searched(study, "late")
    assert [parts for parts in places(study) if not is_fresh(study, *parts)] == []
    assert open_views(study)[1] == [
        f"not scored yet: {NAME} by late; score with: cbmir evaluate --study {study.address}"
    ]


def test_a_search_that_is_gone_makes_its_figures_outdated(study):
    study.delete("neighbors", path_name(NAME))
    assert not is_fresh(study, "metrics")
    assert not is_fresh(study, "as_published", "denner2024", path_name(NAME), "exact")
    assert is_fresh(study, "scaling")


def test_views_say_what_is_outdated_and_how_to_make_it_again(study):
    another_manifest(study)
    notes = open_views(study)[1]
    again = f"--study {study.address}"
    assert notes[0] == (
        f"neighbors of {NAME} by exact are older than the manifest, the embeddings or the index; search again, with the same flags: "
        f"cbmir search {again} --encoder {NAME} --index exact"
    )
    for dataset in ("scaling", "scaling_costs", "vanished", "fits", "search_effort"):
        assert (
            f"{dataset} is older than the manifest or the embeddings; make it again with: {MADE_BY[dataset]} {again}"
            in notes
        )
    assert (
        notes[-1]
        == f"older than the searches: query_metrics, metrics, comparisons, confusions, hubness; make them again with: cbmir evaluate {again}"
    )


def test_encoders_with_long_names_are_judged_each(study):
    names = [f"hf-hub:org/repo/vit-s{i}" for i in (1, 2)]
    made = {name: embedded(study, name) for name in names}
    publish(study, "image_sizes", [], inputs=made)
    assert is_fresh(study, "image_sizes")
    embedded(study, names[1], content="second")
    assert not is_fresh(study, "image_sizes")


def test_an_index_is_judged_as_a_search_is(study):
    inputs = {"embeddings": embedded(study), "manifest": study.require("manifest")["fingerprint"]}
    recorded(study, "index", path_name(NAME), "hnsw", inputs=inputs)
    assert not outdated(study, NAME, study.require("index", path_name(NAME), "hnsw"))
    embedded(study, content="second")
    assert outdated(study, NAME, study.require("index", path_name(NAME), "hnsw"))


def test_each_run_is_read_once(study, monkeypatch):
    read: list[tuple[str, ...]] = []
    real = Study.read_json
    monkeypatch.setattr(Study, "read_json", lambda self, *parts: read.append(parts) or real(self, *parts))
    now = Now(study)
    assert all(now.is_fresh(*parts) for parts in places(study))
    assert len(read) == len(set(read))


# what a removal does with it


def orphaned(study: Study) -> None:
    """A vector of an image that the manifest does not have."""
    add_embeddings(study, ["orphan"], {"orphan": np.ones(4, np.float32)}, encoder="other")
    run = study.require("embeddings", "encoder=other")
    study.write_json(run | {"inputs": {}}, "embeddings", "encoder=other", "run.json")


def test_removing_orphans_leaves_what_is_current(study):
    before = places(study)
    orphaned(study)
    said: list[str] = []
    remove(study, RemoveOptions(orphans=True), say=said.append)
    assert said[0].startswith("removed 1 orphans")
    assert places(study) == before
    assert [parts for parts in before if not is_fresh(study, *parts)] == []
    assert not any("none of cbmir's" in line for line in said)  # drawings are


def test_removing_orphans_deletes_what_is_outdated_and_names_the_command(study):
    embedded(study, content="second")
    orphaned(study)
    said: list[str] = []
    remove(study, RemoveOptions(orphans=True, dry_run=True), say=said.append)
    assert {line.split()[0].rstrip(":") for line in said if line.endswith("deleted, to be made again")} == OF_IMAGES - {
        "problems"
    }
    remove(study, RemoveOptions(orphans=True), say=said.append)
    assert [parts[0] for parts in places(study)] == ["problems"]
    again = [line.strip() for line in said if line.startswith("  cbmir ")]
    there = f"--study {study.address}"
    for command in (
        f"cbmir search {there} --encoder {NAME} --index exact",
        f"cbmir evaluate {there}",
        f"cbmir evaluate {there} --as-published denner2024",
        f"cbmir study index-size --encoder {NAME} {there}",
        f"cbmir study search-effort --encoder {NAME} {there}",
        f"cbmir study image-size --encoder {NAME} {there}",
        f"cbmir report {there}",
        f"cbmir report {there} --paper",
    ):
        assert [line for line in again if line.startswith(command)], command
    assert len(again) == len(set(again)) == 9  # and a probe


def test_images_that_leave_the_manifest_take_all_figures_with_them(study):
    study.delete("scaling_cells")  # deleted to save space: the samples cannot be asked any more
    remove(study, RemoveOptions(where="image_id = 'a'"), say=lambda line: None)
    assert places(study) == []


def test_the_command_of_a_study_is_the_one_that_was_given(study):
    run = study.require("scaling")
    asked = [["study", "index-size", "--encoder", NAME, "--sizes", "10,all"], ["study", "index-size", "--encoder", "b"]]
    study.write_json(run | {"commands": asked}, "scaling", "run.json")
    study.write_json(
        study.require("paper") | {"parameters": {"encoders": ["a", "b"], "relevance": "region", "k": 5}},
        "paper",
        "run.json",
    )
    said: list[str] = []
    remove(study, RemoveOptions(where="image_id = 'a'"), say=said.append)
    again = [line.strip() for line in said if line.startswith("  cbmir ")]
    assert f"cbmir study index-size --encoder {NAME} --sizes 10,all --study {study.address}" in again
    assert (
        f"cbmir study encoders --study {study.address} --encoder a --encoder b --relevance region --k 5 --paper"
        in again
    )


# what is written of outdated figures


def test_a_paper_is_not_made_of_outdated_samples(study):
    study.delete("metrics")
    embedded(study, content="second")
    with pytest.raises(
        UserError,
        match="the samples of the gallery are older than the manifest or the embeddings; make them again with: cbmir study index-size",
    ):
        write_paper(study)
