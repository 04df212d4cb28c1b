"""Which encoders share a device: by hand, and for any machine and any encoders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmir.embedding.packing import GPU_SHARE, Need, pack

GB = 1 << 30
sizes = st.lists(st.integers(0, 30 * GB), min_size=1, max_size=20)
machines = st.fixed_dictionaries(
    {
        "CPU": st.integers(1, 200).map(float),
        "GPU": st.integers(0, 9).map(float),
        "memory": st.floats(0, 2e12),
    }
)


def needs(*gigabytes: float, pixels: int = 224 * 224) -> list[Need]:
    return [Need(f"e{i}", int(size * GB), pixels) for i, size in enumerate(gigabytes)]


def gpus(count: int, cores: int = 64) -> dict[str, float]:
    return {"CPU": float(cores), "GPU": float(count), "memory": 500e9}


def test_encoders_that_fit_on_one_gpu_share_it_and_every_gpu_has_them_all():
    packing = pack(needs(1, 2, 3), gpus(4), "cuda", device_memory=80 * GB)
    ((group,),) = packing.rounds
    assert (group.encoders, group.actors, group.gpus) == ((0, 1, 2), 4, 1.0)


def test_a_large_encoder_is_alone_and_small_ones_share():
    packing = pack(needs(1, 12, 2, 3), gpus(2), "cuda", device_memory=24 * GB)  # 16.8 GB for weights
    (groups,) = packing.rounds
    assert [(group.encoders, group.actors) for group in groups] == [((1,), 1), ((0, 2, 3), 1)]


def test_gpus_left_over_go_to_the_group_with_the_most_work():
    (groups,) = pack(needs(1, 12, 2, 3), gpus(5), "cuda", device_memory=24 * GB).rounds
    assert [(group.encoders, group.actors) for group in groups] == [((1,), 3), ((0, 2, 3), 2)]
    large_images = [Need("small", 6 * GB, 1024**2), Need("big", 12 * GB, 224**2)]
    (groups,) = pack(large_images, gpus(5), "cuda", device_memory=24 * GB).rounds
    assert [(group.encoders, group.actors) for group in groups] == [((1,), 1), ((0,), 4)]


def test_more_groups_than_gpus_take_several_rounds():
    packing = pack(needs(12, 12, 2, 12), gpus(2), "cuda", device_memory=24 * GB)
    assert [[group.encoders for group in round_] for round_ in packing.rounds] == [[(0,), (1,)], [(3,), (2,)]]
    packing = pack(needs(12, 12, 12), gpus(2), "cuda", device_memory=24 * GB)
    assert [[(g.encoders, g.actors) for g in round_] for round_ in packing.rounds] == [
        [((0,), 1), ((1,), 1)],
        [((2,), 2)],
    ]


def test_two_cores_have_two_single_threaded_actors_with_all_encoders():
    ((group,),) = pack(needs(0.1, 0.1), {"CPU": 2.0, "GPU": 0.0, "memory": 16e9}, "cpu").rounds
    assert (group.encoders, group.actors, group.threads, group.cpus) == ((0, 1), 2, 1, 0.49)


def test_weights_beyond_the_memory_take_fewer_actors_then_several_rounds():
    machine = {"CPU": 8.0, "GPU": 0.0, "memory": float(24 * GB)}  # 12 GB for weights, three times each
    ((group,),) = pack(needs(1, 1), machine, "cpu").rounds
    assert (group.actors, group.threads) == (2, 4)
    packing = pack(needs(3, 1, 3), machine, "cpu")
    assert [[(g.encoders, g.actors) for g in round_] for round_ in packing.rounds] == [
        [((0,), 1)],
        [((2,), 1)],
        [((1,), 4)],
    ]


@given(sizes=sizes, found=machines, device=st.sampled_from(["cpu", "cuda"]), memory=st.integers(8, 141))
def test_every_encoder_once_and_nothing_is_taken_twice(sizes, found, device, memory):
    asked = [Need(f"e{i}", size, 224 * 224) for i, size in enumerate(sizes)]
    packing = pack(asked, found, device, device_memory=memory * GB)
    assert sorted(i for round_ in packing.rounds for group in round_ for i in group.encoders) == list(range(len(sizes)))
    for round_ in packing.rounds:
        cpus = sum(group.actors * group.cpus for group in round_)
        assert cpus + packing.task_cpus <= found["CPU"] + 1e-9  # somebody can read and decode
        assert packing.decoders(int(found["CPU"]), round_) >= 1
        assert all(group.actors >= 1 and group.threads >= 1 for group in round_)
        if device == "cuda":
            assert sum(group.actors * group.gpus for group in round_) <= max(1.0, found["GPU"])
            for group in round_:
                weights = sum(sizes[i] for i in group.encoders)
                assert weights <= memory * GB * GPU_SHARE or sum(sizes[i] > 0 for i in group.encoders) == 1


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 9, 64, 192])
def test_threads_of_all_actors_use_the_cores_and_no_more(cores):
    ((group,),) = pack(needs(0.1), {"CPU": float(cores), "GPU": 0.0, "memory": 1e12}, "cpu").rounds
    assert cores - 4 < group.actors * group.threads <= cores
