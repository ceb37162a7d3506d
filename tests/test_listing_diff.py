"""A folder's or an environment's change is told thing by thing."""

from __future__ import annotations

from nbpipe.model import KeyComponent
from nbpipe.views.listing_diff import is_listing, members_diff


def folder(*lines: str) -> KeyComponent:
    return KeyComponent("input:data", "d", "", "\n".join(lines))


def test_files_that_are_new_gone_and_other_ones_are_told():
    was = folder("a.txt\t3\tblake3:aaaaaaaaaaaa", "b.txt\t1\tblake3:bbbbbbbbbbbb", "same\t1\tblake3:cccc")
    now = folder("a.txt\t1234\tblake3:dddddddddddd", "c.txt\t1\tblake3:bbbbbbbbbbbb", "same\t1\tblake3:cccc")

    assert members_diff(was, now) == (
        "~ a.txt (3 bytes, aaaaaaaa → 1,234 bytes, dddddddd)",
        "- b.txt (1 bytes, bbbbbbbb)",
        "+ c.txt (1 bytes, bbbbbbbb)",
    )


def test_versions_of_packages_are_told():
    was, now = (KeyComponent("packages", "d", "", f"numpy\t2.0\npandas\t{version}") for version in ("2.1", "2.2"))

    assert members_diff(was, now) == ("~ pandas (2.1 → 2.2)",)


def test_what_is_beyond_the_limit_is_counted():
    now = folder(*(f"{number}\t1\tblake3:aa" for number in range(100)))

    assert members_diff(folder("x\t1\tblake3:a"), now, max_lines=3)[-1] == "… and 98 more"


def test_code_is_no_listing():
    assert not is_listing(KeyComponent("code", "d", "", "a\tb"))
    assert not is_listing(KeyComponent("input:x", "d", ""))
    assert is_listing(folder("a\t1\tblake3:a"))
