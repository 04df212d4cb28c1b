"""Ray, started in one place: what a task or an actor raises for people leaves it as that one line."""

import pytest

from cbmir.cluster import ray_session as session
from cbmir.errors import TooManyFailures, UserError


def refuse(block):
    raise TooManyFailures("too many; do this")


def divide(block):
    return 1 // 0


class Refusing:
    def __init__(self, *, at_once: bool) -> None:
        if at_once:
            raise UserError("no such file here; put it there")

    def __call__(self, block):
        raise UserError("does not fit; take a smaller one")


def mapped(function, **options):
    import ray

    with session():
        ray.data.range(4).map_batches(function, **options).materialize()


def test_an_error_for_people_leaves_a_task_as_itself(ray_session):
    with pytest.raises(TooManyFailures) as error:
        mapped(refuse)
    assert str(error.value) == "too many; do this"
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    "at_once, said", [(True, "no such file here; put it there"), (False, "does not fit; take a smaller one")]
)
def test_an_error_for_people_leaves_an_actor_as_itself(ray_session, at_once, said):
    from ray.data import ActorPoolStrategy

    with pytest.raises(UserError) as error:
        mapped(Refusing, fn_constructor_kwargs={"at_once": at_once}, compute=ActorPoolStrategy(size=1))
    assert type(error.value) is UserError
    assert str(error.value) == said


def test_a_defect_stays_what_it_is(ray_session):
    with pytest.raises(ZeroDivisionError) as error:
        mapped(divide)
    assert not isinstance(error.value, UserError)
