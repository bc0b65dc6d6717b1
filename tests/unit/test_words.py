"""The check on wording: which words and which test names it finds."""

from __future__ import annotations

import pytest

from aether_testing import words

INSTEAD = {"gizmo": "device"}


@pytest.mark.parametrize(
    "text",
    ["a gizmo", "Gizmos", "next_gizmo", "GIZMO_COUNT", "NextGizmo", "HTTPGizmo", "gizmoCount", "gizmo2", "the gizmo's"],
)
def test_unwanted_word_is_found_alone_and_within_identifiers(text: str) -> None:
    assert list(words.unwanted(text, INSTEAD)) == [(1, "gizmo")]


@pytest.mark.parametrize("text", ["device", "gizmology", "regizmo", "a gizmo_of_theirs", "Gizmo fair"])
def test_longer_words_and_exempt_phrases_are_not_found(text: str) -> None:
    assert not list(words.unwanted(text, INSTEAD, ["gizmo_of_theirs", "gizmo fair"]))


def test_each_occurrence_is_reported_with_its_line() -> None:
    assert [line for line, _ in words.unwanted("gizmo\n\ngizmo gizmo", INSTEAD)] == [1, 3, 3]


def test_only_test_names_of_more_than_ten_words_are_reported() -> None:
    ten = "test_a_b_c_d_e_f_g_h_i_j"
    source = f"def {ten}(): ...\nasync def {ten}_k(): ...\ndef not_a_{ten}_k(): ..."

    assert list(words.long_test_names(source)) == [(2, f"{ten}_k")]
