"""How a dataset is split and ordered."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runner_agent.trainer.datasets.loading import epoch_batches, split

labels = st.lists(st.integers(0, 4), min_size=2, max_size=200)
shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**64 - 1)


@given(labels=labels, share=shares, seed=seeds, data=st.data())
def test_every_readable_image_is_on_one_side_and_every_class_is_trained_on(
    labels: list[int], share: float, seed: int, data: st.DataObject
) -> None:
    skipped = data.draw(st.sets(st.integers(0, len(labels) - 1), max_size=3))
    train, validation = split(labels, skipped, share, seed)
    assert sorted(train + validation) == [index for index in range(len(labels)) if index not in skipped]
    members = Counter(labels[index] for index in train + validation)
    held_out = Counter(labels[index] for index in validation)
    for label, count in members.items():
        assert held_out[label] < count
        assert held_out[label] >= (count > 1)
        assert abs(held_out[label] - share * count) <= 1


@given(labels=labels, share=shares, seed=seeds)
def test_the_seed_alone_decides_the_split(labels: list[int], share: float, seed: int) -> None:
    assert split(labels, set(), share, seed) == split(labels, set(), share, seed)


def test_another_seed_splits_otherwise() -> None:
    assert split([0, 1] * 50, set(), 0.2, 1) != split([0, 1] * 50, set(), 0.2, 2)


@given(images=st.integers(1, 300), batch_size=st.integers(1, 64), seed=seeds, epoch=st.integers(1, 1000))
def test_an_epoch_sees_each_image_at_most_once_in_whole_batches(
    images: int, batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(range(images), batch_size, seed, epoch)
    seen = [index for batch in batches for index in batch]
    assert len(seen) == len(set(seen)) == images // batch_size * batch_size
    assert batches == epoch_batches(range(images), batch_size, seed, epoch)
    assert all(len(batch) == batch_size for batch in batches)


def test_each_epoch_has_its_own_order() -> None:
    assert epoch_batches(range(100), 10, 0, 1) != epoch_batches(range(100), 10, 0, 2)
