from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.report.render.html.tree import MAX_SEGMENTS, Branch, split_path, tree
from tests.strategies import names

path_like = names | st.text("ab.[]<>'", max_size=30)


@given(path_like)
def test_splitting_loses_no_character(path: str) -> None:
    assert "".join(split_path(path)) == path


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("app.SESSIONS", ("app", ".SESSIONS")),
        ("app.JOBS[str].lines[\u2026]", ("app", ".JOBS", "[str]", ".lines", "[\u2026]")),
        ("app.f.<closure payload>.x", ("app", ".f", ".<closure payload>", ".x")),
        ("app.X<itertools.chain>", ("app", ".X", "<itertools.chain>")),
        (
            "local 'q' of running function app.main.<locals>.go (line 12).items",
            ("local 'q' of running function app.main.<locals>.go (line 12)", ".items"),
        ),
        ("cache 'v1.users'.data", ("cache 'v1.users'", ".data")),
        ("[", ("[",)),
        ("", ()),
    ],
)
def test_a_path_is_split_where_a_person_would(path: str, segments: tuple[str, ...]) -> None:
    assert split_path(path) == segments


def test_an_endless_path_is_split_only_so_far() -> None:
    segments = split_path("a" + ".b" * 10_000)
    assert len(segments) == MAX_SEGMENTS
    assert "".join(segments) == "a" + ".b" * 10_000


def leaves(branches: list[Branch], above: str = "") -> dict[int, str]:
    """Return the whole path of each number in the tree."""
    found = {}
    for branch in branches:
        path = above + branch.text
        found.update(dict.fromkeys(branch.members, path))
        found.update(leaves(branch.branches, path))
    return found


@given(st.lists(path_like, max_size=8))
def test_every_path_is_in_the_tree_once_and_whole(paths: list[str]) -> None:
    assert leaves(tree(paths)) == dict(enumerate(paths))


def fork_count(branches: list[Branch]) -> int:
    return sum(
        (not branch.members and len(branch.branches) < 2) + fork_count(branch.branches)
        for branch in branches
    )


@given(st.lists(path_like, max_size=8))
def test_a_branch_is_there_for_a_holder_or_because_it_forks(paths: list[str]) -> None:
    assert fork_count(tree(paths)) == 0


def test_what_paths_share_is_written_once() -> None:
    (shop,) = tree(["shop.app.A", "shop.app.A[str].b", "shop.jobs.J"])
    assert shop.text == "shop"
    assert [branch.text for branch in shop.branches] == [".app.A", ".jobs.J"]
    assert [branch.text for branch in shop.branches[0].branches] == ["[str].b"]
