"""A fingerprint: the same for the same leak, wherever and whenever it is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memguard.leaks.evidence.frames import package_relative, qualified_at
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding.fingerprint import fingerprint
from memguard.leaks.report import Frame, Holder, LeakReport, ResourceGroup, ResourceGrowth
from tests.specimens import leak_report


def held(path: str = "shop.SESSIONS", *, line: int = 57, file: str = "/srv/a/app.py") -> Holder:
    return Holder(
        path=path,
        type="dict",
        entries=10,
        entries_added=5,
        entries_per_minute=60.0,
        bytes_per_entry=100,
        bytes_added=500,
        bytes_per_minute=6000.0,
        site=Frame(file=file, line=line, function="remember", in_user_code=True),
    )


def printed(
    *,
    holder: Holder | None = None,
    source: str = "SESSIONS[token] = Session(user)",
    name: str = "Shop.remember",
    **changes: Any,
) -> str:
    holder = holder or held()
    assert holder.site is not None
    place = (holder.site.file, holder.site.line)
    report: LeakReport = leak_report(holders=(holder,), **changes)
    return fingerprint(report, Evidence(qualified={place: name}, sources={place: source}))


def test_it_survives_restarts_sizes_and_edits_elsewhere() -> None:
    first = printed()
    assert len(first) == 16
    assert printed(holder=held(line=190)) == first, "a line was added above"
    assert printed(holder=held(file="/opt/release-7/app.py")) == first, "deployed elsewhere"
    assert printed(source="\tSESSIONS[token] = Session(user)  ") == first, "indented"
    grown = replace(held(), entries=10**6, entries_added=10**5, bytes_added=10**9)
    assert printed(holder=grown, id="other", pid=7, revision=9, uptime_seconds=1e6) == first


def test_no_number_of_a_path_is_part_of_it() -> None:
    one = printed(holder=held("<Thread-7 (work)>._results[3].items at 0x7f00deadbeef"))
    two = printed(holder=held("<Thread-12 (work)>._results[41].items at 0x7f11cafe0010"))
    assert one == two


def test_a_conjecture_about_the_keeper_is_no_part_of_it() -> None:
    certain = "function, held by nothing that Python can see"
    may_be = "; the code around it passes it to create_function(): perhaps shop.DB (…) keeps it"
    assert printed(holder=held(certain + may_be)) == printed(holder=held(certain))


@pytest.mark.parametrize(
    "changes",
    [
        {"holder": held("shop.BASKETS")},
        {"holder": replace(held(), type="list")},
        {"holder": held(file="/srv/a/cart.py")},
        {"name": "Cart.remember"},
        {"source": "SESSIONS[token] = Session(user, cart)"},
        {"verdict": replace(leak_report().verdict, kind="cycles")},
    ],
    ids=["path", "type", "file", "function", "line", "kind"],
)
def test_what_makes_it_another_leak_changes_it(changes: dict[str, Any]) -> None:
    assert printed(**changes) != printed()


def test_the_users_line_stands_in_for_that_of_a_library() -> None:
    suspect = leak_report().suspects[0]
    place = suspect.user_frame
    assert place is not None
    report = leak_report(holders=(), suspects=(replace(suspect, file="/lib/x.py"),))
    names = {(place.file, place.line): "checkout"}
    seen = fingerprint(report, Evidence(qualified=names))
    assert seen == fingerprint(replace(report, suspects=(suspect,)), Evidence(qualified=names))
    assert seen != fingerprint(report, Evidence(qualified={(place.file, place.line): "pay"}))


def test_a_report_that_names_nothing_has_none() -> None:
    assert fingerprint(leak_report(holders=(), suspects=()), Evidence()) == ""


def test_a_file_is_named_within_its_package(tmp_path: Path) -> None:
    package = tmp_path / "site" / "shop" / "orders"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    assert package_relative(str(package / "cart.py")) == "shop/orders/cart.py"
    assert package_relative(str(tmp_path / "site" / "script.py")) == "script.py"
    assert package_relative("<string>") == "<string>"


class _Shop:
    def remember(self) -> int:
        return 1


def test_a_method_is_named_with_its_class() -> None:
    line = _Shop.remember.__code__.co_firstlineno + 1
    assert qualified_at([(__file__, line)]) == {(__file__, line): "_Shop.remember"}


def piled_up(name: str, begins_at: Frame | None = None) -> str:
    group = ResourceGroup(name=name, count=90, added=80, begins_at=begins_at)
    kind: Any = "sockets" if begins_at is None else "threads"
    pile = ResourceGrowth(kind=kind, count=90, added=80, per_minute=9.0, groups=(group,))
    verdict = replace(leak_report().verdict, kind=kind)
    report = leak_report(holders=(), suspects=(), resources=(pile,), verdict=verdict)
    return fingerprint(report, Evidence())


def test_what_piles_up_is_another_leak_in_another_function() -> None:
    poll = Frame(file="/srv/shop/app.py", line=10, function="poll", in_user_code=True)
    first = piled_up("shop.app.poll", poll)
    assert piled_up("shop.app.poll", replace(poll, line=31)) == first
    assert piled_up("shop.app.push", replace(poll, line=31, function="push")) != first


def test_sockets_that_pile_up_have_one_without_a_line() -> None:
    waiting = piled_up("tcp, CLOSE_WAIT (the peer has closed it), remote port 5432")
    assert waiting
    assert waiting == piled_up("tcp, CLOSE_WAIT (the peer has closed it), remote port 5433")
    assert waiting != piled_up("unix socket")
