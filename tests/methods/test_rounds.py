"""Offline labels: looked up by clip, saved and resumed with the method."""

from __future__ import annotations

import pytest
import torch

from methods.common.rounds import LabelBank, even_rounds


def labels(value: int, n: int = 1) -> torch.Tensor:
    return torch.full((n, 2, 3), value)


def filled() -> LabelBank:
    bank = LabelBank()
    bank.put(("a", "b"), torch.stack([labels(1)[0], labels(255)[0]]))
    bank.put(("c",), labels(7))
    bank.close()
    return bank


def test_labels_come_back_by_key_in_any_order() -> None:
    looked_up = filled().of(("c", "a", "b", "a"))
    assert looked_up.dtype == torch.int64 and looked_up[:, 0, 0].tolist() == [7, 1, 255, 1]


def test_a_new_round_replaces_the_old_one() -> None:
    bank = filled()
    bank.put(("d",), labels(3))
    assert bank.of(("a",))[0, 0, 0] == 1  # the old labels stand until the round is closed
    bank.close()
    assert bank.of(("d",))[0, 0, 0] == 3
    with pytest.raises(KeyError, match="no labels for all of a; the round labelled 1 clips"):
        bank.of(("a",))


def test_nothing_and_twice_are_refused() -> None:
    bank = LabelBank()
    with pytest.raises(KeyError):
        bank.of(("a",))
    with pytest.raises(ValueError, match="no labels"):
        bank.close()
    bank.put(("a", "a"), labels(0, 2))
    with pytest.raises(ValueError, match="twice"):
        bank.close()


def test_a_saved_bank_is_loaded_into_one_of_any_size() -> None:
    state = filled().state_dict()
    for bank in (LabelBank(), filled()):
        bank.load_state_dict(state)
        assert torch.equal(bank.of(("a", "b", "c")), filled().of(("a", "b", "c")))
    empty = filled()
    empty.load_state_dict(LabelBank().state_dict())
    with pytest.raises(KeyError):
        empty.of(("a",))


@pytest.mark.parametrize(
    ("first", "steps", "rounds", "expected"),
    [
        (0, 150, 1, (0,)),
        (75, 150, 1, (75,)),
        (0, 150, 3, (0, 50, 100)),
        (75, 150, 2, (75, 112)),
        (4, 6, 5, (4, 5)),
        (6, 6, 1, ()),
    ],
)
def test_rounds_are_equally_long(first: int, steps: int, rounds: int, expected: tuple[int, ...]) -> None:
    assert even_rounds(first, steps, rounds) == expected
