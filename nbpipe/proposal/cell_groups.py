"""Which cells form a step together, so that each gets the values that it would get in one kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nbpipe.proposal.cell_traits import FILE, RANDOM, CellTraits, is_state

Group = tuple[int, ...]
# A version of a name is known by the cell that made it.
Versions = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DataFlow:
    """For each cell in order, the versions that it reads; names that set-up cells define have none."""

    traits: Mapping[int, CellTraits]
    reads: Mapping[int, Versions]
    _readers: Mapping[int, dict[str, list[int]]]

    @classmethod
    def of(cls, traits: Mapping[int, CellTraits]) -> DataFlow:
        """Return the flow of values between cells, which are given in the notebook's order."""
        current: dict[str, int] = {}
        reads: dict[int, Versions] = {}
        traits = _relevant(traits)
        for number, cell in traits.items():
            reads[number] = {name: current[name] for name in (cell.reads | cell.changes) if name in current}
            for name in cell.resets:
                current.pop(name, None)
            current |= dict.fromkeys(cell.writes, number)
        readers: dict[int, dict[str, list[int]]] = {}
        for number, versions in reads.items():
            for name, maker in versions.items():
                readers.setdefault(maker, {}).setdefault(name, []).append(number)
        return cls(traits, reads, readers)

    def readers(self, number: int) -> dict[str, list[int]]:
        """Return the cells that read what a cell wrote, by name."""
        return self._readers.get(number, {})

    def fleeting(self, number: int, name: str) -> bool:
        """Return whether a version of a name cannot be handed from step to step."""
        return is_state(name) or name in self.traits[number].fleeting


def _relevant(traits: Mapping[int, CellTraits]) -> dict[int, CellTraits]:
    """Return the traits without changes of what neither the cell nor a later one reads: loop variables, mostly."""
    read: frozenset[str] = frozenset()
    kept: dict[int, CellTraits] = {}
    for number, cell in reversed(list(traits.items())):
        read |= cell.reads
        kept[number] = replace(cell, changes=cell.changes & read, entangled=cell.entangled & read)
    return dict(reversed(kept.items()))


def steps_of(groups: Iterable[Group]) -> dict[int, Group]:
    """Return the group of each cell."""
    return {number: group for group in groups for number in group}


def inputs_of(flow: DataFlow, group: Group) -> dict[str, int]:
    """Return the versions that a group takes from outside; of several of one name the first."""
    found: dict[str, int] = {}
    for number in group:
        for name, maker in flow.reads[number].items():
            if maker not in group:
                found.setdefault(name, maker)
    return found


def outputs_of(flow: DataFlow, group: Group) -> dict[str, int]:
    """Return the last version in a group of each name that its cells write."""
    return {name: number for number in group for name in flow.traits[number].writes}


def clashes(flow: DataFlow, groups: Collection[Group]) -> Iterator[tuple[str, frozenset[Group]]]:
    """Yield why the groups cannot be steps as they are, each time with groups that would have to be one."""
    owner = steps_of(groups)
    needs: dict[Group, set[Group]] = {group: set() for group in groups}
    for group in groups:
        written: set[str] = set()
        taken: dict[str, int] = {}
        for number in group:
            for name, maker in flow.reads[number].items():
                other = owner.get(maker)
                if other is None or other == group:
                    continue
                needs[group].add(other)
                if flow.fleeting(maker, name):
                    yield _shared_use(name), frozenset([group, other])
                elif (
                    name in written or taken.setdefault(name, maker) != maker or outputs_of(flow, other)[name] != maker
                ):
                    yield f"they use several versions of `{name}`", frozenset([group, other])
            written |= flow.traits[number].writes
            yield from _torn(flow, owner, number)
    cycle = _cycle(needs)
    if cycle:
        yield "they need each other", frozenset(cycle)


def _shared_use(name: str) -> str:
    if name.startswith(RANDOM):
        return f"they draw from the same {name}"
    if name.startswith(FILE):
        return f"they write and read the {name}"
    return f"they use `{name}`, which cannot be handed from step to step"


def _torn(flow: DataFlow, owner: Mapping[int, Group], number: int) -> Iterator[tuple[str, frozenset[Group]]]:
    """Yield the groups that make objects which contain each other, if a cell changes them."""
    versions = flow.reads[number]
    names = sorted(flow.traits[number].entangled & versions.keys())
    makers = {owner[versions[name]] for name in names if versions[name] in owner}
    if len(makers) > 1:
        listed = ", ".join(f"`{name}`" for name in names)
        yield f"they change {listed}, of which one may contain another", frozenset([*makers, owner[number]])


def _cycle(needs: Mapping[Group, Collection[Group]]) -> list[Group]:
    """Return groups that need each other, if there are any."""
    done: set[Group] = set()
    for start in needs:
        path, todo = [start], [iter(sorted(needs[start]))] if start not in done else []
        while todo:
            following = next(todo[-1], None)
            if following is None:
                todo.pop()
                done.add(path.pop())
            elif following in path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                todo.append(iter(sorted(needs[following])))
    return []


def merged(groups: Iterable[Group], together: Collection[Group]) -> list[Group]:
    """Return the groups with some of them as one, in the notebook's order."""
    rest = [group for group in groups if group not in together]
    return sorted([*rest, tuple(sorted(number for group in together for number in group))])


def settled(flow: DataFlow, groups: Sequence[Group]) -> tuple[list[Group], list[tuple[str, Group]]]:
    """Return the groups with all clashes removed by merging, and the merges: the reason, and the group."""
    current, merges = sorted(groups), list[tuple[str, Group]]()
    while clash := next(clashes(flow, current), None):
        reason, together = clash
        merges.append((reason, tuple(sorted(number for group in together for number in group))))
        current = merged(current, together)
    return current, merges


def is_settled(flow: DataFlow, groups: Sequence[Group]) -> bool:
    """Return whether the groups can be steps as they are."""
    return next(clashes(flow, groups), None) is None
