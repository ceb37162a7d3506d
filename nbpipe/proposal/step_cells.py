"""Which cells are worth being steps, and which of them one step continues."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from nbpipe.proposal.cell_groups import DataFlow, Group, inputs_of, is_settled, merged, settled
from nbpipe.proposal.cell_tags import CellTags
from nbpipe.proposal.cell_traits import RANDOM
from nbpipe.proposal.notebook_outline import OutlineCell

# A cell that took less is no step of its own, if a neighbour can take it.
CHEAP_SECONDS = 1.0
# A cell that took longer is not merged with others only because it follows them.
LONG_SECONDS = 10.0
_SMALL = 0.1


@dataclass(frozen=True, slots=True)
class CellSelection:
    """The cells of each step, the merges that the values needed, and why other cells stay ordinary."""

    groups: tuple[Group, ...]
    merges: tuple[tuple[str, Group], ...]
    ordinary: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class CellSelector:
    """Chooses cells for steps; ``refused`` are cells that have to stay ordinary, with the reasons."""

    flow: DataFlow
    cells: Mapping[int, OutlineCell]
    tags: Mapping[int, CellTags]
    refused: Mapping[int, str]

    def select(self, joined: Sequence[Collection[int]] = ()) -> CellSelection:
        """Return the steps; ``joined`` are cells that have to be in one step."""
        ordinary = self._ordinary()
        chosen = [number for number, cell in self.flow.traits.items() if cell.code and number not in ordinary]
        groups: list[Group] = [(number,) for number in chosen]
        for together in [*self._tagged(), *joined]:
            groups = merged(groups, [group for group in groups if not set(group).isdisjoint(together)])
        groups, merges = settled(self.flow, [group for group in groups if group])
        for join in (self._continues, self._is_small, self._alone):
            groups = self._joined(groups, join)
        return CellSelection(tuple(groups), tuple(merges), ordinary)

    # Cells that stay ordinary

    def _ordinary(self) -> dict[int, str]:
        """Return the cells that are no steps, each with the reason; empty if there is nothing to be said."""
        found = {number: self._why_not(number) for number in self.flow.traits}
        ordinary = {number: reason for number, reason in found.items() if reason is not None}
        changed = True
        while changed:
            changed = False
            for number, versions in self.flow.reads.items():
                blocked = next(((name, maker) for name, maker in sorted(versions.items())
                                if maker in ordinary and not name.startswith(RANDOM)), None)  # fmt: skip
                if number not in ordinary and blocked is not None:
                    name, maker = blocked
                    ordinary[number] = f"it reads `{name}`, which cell {maker} makes, and that cell stays as it is"
                    changed = True
        for number in reversed(list(self.flow.traits)):
            if number not in ordinary and not self._is_worth(number, ordinary):
                ordinary[number] = ""
        return ordinary

    def _why_not(self, number: int) -> str | None:
        traits, tags = self.flow.traits[number], self.tags[number]
        if number in self.refused:
            return self.refused[number]
        if not traits.code or tags.shared or tags.parameters:
            return ""
        if tags.skipped:
            return "its tag says `skip`"
        return traits.obstacle or None

    def _is_worth(self, number: int, ordinary: Mapping[int, str]) -> bool:
        """Return whether a cell makes something: for other steps, for cells below, or as a result of its own."""
        traits, seconds = self.flow.traits[number], self.cells[number].seconds
        if self.tags[number].step is not None:
            return True
        readers = {reader for each in self.flow.readers(number).values() for reader in each}
        if any(reader not in ordinary for reader in readers):
            return True
        outputs = [name for name in traits.results if name not in traits.fleeting]
        outputs += [name for name, maker in self.flow.reads[number].items()
                    if name in traits.changes and not self.flow.fleeting(maker, name)]  # fmt: skip
        if seconds is not None and seconds >= LONG_SECONDS:
            return bool(outputs)
        if seconds is not None and seconds < _SMALL:
            return False
        if readers:
            return traits.calls or bool(traits.changes)
        works = traits.calls or bool(traits.changes)
        return bool(outputs) and works and not traits.plots and bool(self.flow.reads[number])

    def _tagged(self) -> list[list[int]]:
        by_name: dict[str, list[int]] = {}
        for number, tags in self.tags.items():
            if tags.step is not None:
                by_name.setdefault(tags.step, []).append(number)
        return list(by_name.values())

    # Cells that belong together

    def _joined(self, groups: list[Group], belongs: Callable[[Group, Group], bool]) -> list[Group]:
        """Return the groups with each one merged into an earlier one that it belongs to, if that is possible."""
        current = list(groups)
        for group in groups:
            if group not in current:
                continue
            for earlier in reversed(current[: current.index(group)]):
                if self._tags_allow(earlier, group) and belongs(earlier, group):
                    attempt = merged(current, [earlier, group])
                    if is_settled(self.flow, attempt):
                        current = attempt
                        break
        return current

    def _tags_allow(self, earlier: Group, group: Group) -> bool:
        names = {self.tags[number].step for number in (*earlier, *group)}
        return len(names) == 1

    def _continues(self, earlier: Group, group: Group) -> bool:
        """Return whether a group works on what an earlier one has made: changes it, or binds its name again."""
        if self._seconds(group) >= LONG_SECONDS and self._seconds(earlier) >= LONG_SECONDS:
            return False
        # A generator of random numbers goes from step to step.
        written = {
            name for number in group for name in self.flow.traits[number].writes - self.flow.traits[number].drawn
        }
        return any(maker in earlier and name in written for name, maker in inputs_of(self.flow, group).items())

    def _is_small(self, earlier: Group, group: Group) -> bool:
        """Return whether one of two neighbours in a section is cheap, as measured, or only sets values."""
        small = self._is_cheap(earlier) or self._is_cheap(group)
        return small and self._same_section(earlier, group) and self._is_fed(earlier, group)

    def _alone(self, earlier: Group, group: Group) -> bool:
        """Return whether a group only sets values for the other one, wherever it stands."""
        if any(self.flow.traits[number].calls for number in earlier):
            return False
        readers = {reader for number in earlier for each in self.flow.readers(number).values() for reader in each}
        return readers <= {*earlier, *group}

    def _is_cheap(self, group: Group) -> bool:
        if all(self.cells[number].seconds is not None for number in group):
            return self._seconds(group) < CHEAP_SECONDS
        return not any(self.flow.traits[number].calls for number in group)

    def _is_fed(self, earlier: Group, group: Group) -> bool:
        return any(maker in earlier for maker in inputs_of(self.flow, group).values())

    def _same_section(self, earlier: Group, group: Group) -> bool:
        return self.cells[earlier[-1]].section == self.cells[group[0]].section

    def _seconds(self, group: Group) -> float:
        return sum(self.cells[number].seconds or 0.0 for number in group)
