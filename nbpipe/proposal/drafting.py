"""Declarations for chosen cells: names, inputs with their producers, outputs, and the cells' new texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbpipe.model.proposals import CellEdits, ProposedStep
from nbpipe.proposal.cell_groups import DataFlow, Group, inputs_of, outputs_of, steps_of
from nbpipe.proposal.cell_tags import CellTags
from nbpipe.proposal.cell_text import continuation, declaration, moved_source, step_source
from nbpipe.proposal.cell_traits import is_state
from nbpipe.proposal.notebook_outline import OutlineCell
from nbpipe.proposal.step_names import step_name


@dataclass(frozen=True, slots=True)
class Drafter:
    """Writes the declarations of groups of cells; ``broken`` cells have errors that would refuse the notebook."""

    flow: DataFlow
    cells: Mapping[int, OutlineCell]
    tags: Mapping[int, CellTags]
    broken: frozenset[int] = frozenset()

    def draft(self, groups: Sequence[Group]) -> tuple[tuple[ProposedStep, ...], CellEdits]:
        """Return the steps, and the edits that declare them."""
        outputs = {group: self._outputs(group, groups) for group in groups}
        names = self._names(groups, outputs)
        steps = tuple(self._step(group, groups, names, outputs) for group in groups)
        sources: dict[int, str] = {}
        above: dict[int, str] = {}
        for group, step in zip(groups, steps, strict=True):
            after = [
                name for name in step.needs if name not in {names[other] for other in self._feeding(group, groups)}
            ]
            for place, number in enumerate(group):
                source, moved = self.cells[number].cell.source, self.flow.traits[number].moved
                first = continuation(step.name) if place else declaration(step.name, step.inputs, step.outputs, after)
                sources[number] = step_source(source, first, moved)
                if moved:
                    above[number] = moved_source(source, moved)
        sources |= self._marked()
        return steps, CellEdits(sources if steps else {}, above)

    def _marked(self) -> dict[int, str]:
        """Return the cells that tags of other tools make parameters, or share with all steps, and broken cells."""
        marked = {number: f"#| local\n{self.cells[number].cell.source}" for number in self.broken}
        for number, tags in self.tags.items():
            source = self.cells[number].cell.source
            if tags.parameters and not source.lstrip().startswith("#|"):
                marked[number] = f"#| parameters\n{source}"
            elif tags.shared and number in self.flow.traits and self.flow.traits[number].code:
                marked[number] = f"#| shared\n{source}"
        return marked

    def _step(
        self, group: Group, groups: Sequence[Group], names: Mapping[Group, str],
        outputs: Mapping[Group, tuple[str, ...]],
    ) -> ProposedStep:  # fmt: skip
        owner = steps_of(groups)
        inputs: list[str] = []
        for name, maker in sorted(inputs_of(self.flow, group).items()):
            if maker not in owner or is_state(name):
                continue
            makers = [other for other in groups if other != group and name in outputs[other]]
            inputs.append(name if len(makers) == 1 else f"{name}={names[owner[maker]]}.{name}")
        feeding = [names[other] for other in self._feeding(group, groups)]
        known = {self.tags[number].step: names[other] for other in groups for number in other}
        before = [known[tag] for number in group for tag in self.tags[number].previous if tag in known]
        seconds = [self.cells[number].seconds for number in group]
        total = None if None in seconds else sum(each or 0.0 for each in seconds)
        needs = tuple(dict.fromkeys(name for name in [*feeding, *before] if name != names[group]))
        return ProposedStep(names[group], group, tuple(inputs), outputs[group], total, needs)

    def _feeding(self, group: Group, groups: Sequence[Group]) -> list[Group]:
        owner = steps_of(groups)
        makers = [owner[maker] for maker in inputs_of(self.flow, group).values() if maker in owner]
        return list(dict.fromkeys(sorted(makers)))

    def _outputs(self, group: Group, groups: Sequence[Group]) -> tuple[str, ...]:
        """Return what a group hands on: what cells below read, else its results."""
        last = outputs_of(self.flow, group)
        read = {
            name
            for name, maker in last.items()
            if any(reader not in group for reader in self.flow.readers(maker).get(name, ()))
        }
        owner = steps_of(groups)
        taken = {name for name, maker in inputs_of(self.flow, group).items() if maker in owner}
        changed = {name for number in group for name in self.flow.traits[number].changes & taken}
        results = [name for number in group for name in self.flow.traits[number].results if name in last]
        kept = [name for name in results if not self.flow.fleeting(last[name], name)]
        read = {name for name in read if not self.flow.fleeting(last[name], name)}
        # What is only changed by the way, such as a generator of random numbers, is no result.
        read |= set() if read - changed else set(kept[-1:])
        able = [name for name in last if name in read | changed and not self.flow.fleeting(last[name], name)]
        order = {name: place for place, name in enumerate(self._order(group))}
        return tuple(sorted(able, key=lambda name: (order.get(name, -1), name)))

    def _order(self, group: Group) -> list[str]:
        return list(dict.fromkeys(name for number in group for name in self.flow.traits[number].results))

    def _names(self, groups: Sequence[Group], outputs: Mapping[Group, tuple[str, ...]]) -> dict[Group, str]:
        names: dict[Group, str] = {}
        sections = [self.cells[group[0]].section for group in groups]
        for group in groups:
            cell = self.cells[group[0]]
            alone = sections.count(cell.section) == 1
            heading = cell.heading if alone else ""
            tag = self.tags[group[0]].step
            names[group] = step_name(tag, heading, outputs[group], set(names.values()), group[0])
        return names
