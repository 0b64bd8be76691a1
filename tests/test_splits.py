"""Splits: leak-proof, stable, near 70/15/15, and never without one of the answers where there is enough."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_factory.splits import NAMES, SHARES, assign


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


photos = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=80)


@given(photos, st.integers(0, 99))
def test_a_group_is_never_parted(rows: list[tuple[int, bool]], seed: int) -> None:
    groups = [group for group, _ in rows]
    split = assign([sha(i) for i in range(len(rows))], groups, [yes for _, yes in rows], seed)

    assert len({(g, s) for g, s in zip(groups, split, strict=True)}) == len(set(groups))


@given(photos, st.integers(0, 99), st.randoms())
def test_order_does_not_matter(rows: list[tuple[int, bool]], seed: int, random: object) -> None:
    indexed = [(sha(i), group, yes) for i, (group, yes) in enumerate(rows)]
    shuffled = indexed[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def by_sha(items: list[tuple[str, int, bool]]) -> dict[str, str]:
        return dict(zip([i[0] for i in items], assign(*map(list, zip(*items, strict=True)), seed), strict=True))

    assert by_sha(indexed) == by_sha(shuffled)


@given(st.integers(0, 9), st.integers(200, 300), st.integers(1, 100))
def test_new_photos_do_not_move_old_ones(seed: int, old: int, more: int) -> None:
    def split(n: int) -> list[str]:
        return assign([sha(i) for i in range(n)], list(range(n)), [i % 2 == 0 for i in range(n)], seed)

    assert split(old + more)[:old] == split(old)


@given(st.integers(0, 99), st.integers(3, 12), st.integers(3, 12))
def test_each_split_gets_both_answers_from_three_groups_on(seed: int, yes: int, no: int) -> None:
    labels = [True] * yes + [False] * no
    split = assign([sha(i) for i in range(yes + no)], list(range(yes + no)), labels, seed)

    assert {(s, label) for s, label in zip(split, labels, strict=True)} == {
        (s, v) for s in NAMES for v in (True, False)
    }


def test_shares_hold_in_each_class() -> None:
    n = 6000
    labels = [i % 5 == 0 for i in range(n)]
    split = assign([sha(i) for i in range(n)], list(range(n)), labels, 0)

    for side in (True, False):
        counts = Counter(s for s, label in zip(split, labels, strict=True) if label is side)
        for name, share in SHARES:
            assert abs(counts[name] / sum(counts.values()) - share) < 0.03


def test_seeds_differ() -> None:
    args = [sha(i) for i in range(100)], list(range(100)), [i < 50 for i in range(100)]

    assert assign(*args, 0) != assign(*args, 1)


def place(sha256s: list[str], seed: int) -> float:
    """A group's number in [0, 1), from the first 64 bits of a hash of the seed and its smallest sha256."""
    digest = hashlib.sha256(f"{seed}:{min(sha256s)}".encode()).hexdigest()
    return int(digest[:16], 16) / 16**16


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 9))
def test_the_hash_of_its_smallest_photo_places_a_group_and_what_is_empty_takes_the_nearest(
    seed: int, yes: int, no: int
) -> None:
    """Two photos a group. Each answer is dealt by itself, as if the other were not there."""
    names = [sha(i) for i in range(2 * (yes + no))]
    split = assign(names, [i // 2 for i in range(len(names))], [i < 2 * yes for i in range(len(names))], seed)
    for members in (range(yes), range(yes, yes + no)):
        at = {g: place(names[2 * g : 2 * g + 2], seed) for g in members}
        wanted = {g: "train" if at[g] < 0.7 else "val" if at[g] < 0.85 else "test" for g in members}
        for name, middle in (("train", 0.35), ("val", 0.775), ("test", 0.925)):
            spare = [g for g in members if Counter(wanted.values())[wanted[g]] > 1]
            if name not in wanted.values() and spare:
                wanted[sorted(spare, key=lambda g: abs(at[g] - middle))[0]] = name
        assert {g: split[2 * g] for g in members} == {g: split[2 * g + 1] for g in members} == wanted


def test_a_group_is_a_yes_when_any_of_its_photos_is() -> None:
    """Three groups of one yes among two: each split gets one, though no group is all yes."""
    for seed in range(20):
        names = [sha(i) for i in range(12)]
        groups = [i // 2 for i in range(12)]
        split = assign(names, groups, [i in (0, 3, 4) for i in range(12)], seed)

        assert {split[0], split[3], split[4]} == set(NAMES)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        assign([sha(0), sha(1)], [0], [True, False], 0)
