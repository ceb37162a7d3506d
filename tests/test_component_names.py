"""The typed names of what decides verdicts, and the texts that stand for them in keys, records and JSON."""

from __future__ import annotations

import pytest

from nbpipe.model import ComponentKind, KeyComponent, ObservationKind, Reason, component_name, split_name
from nbpipe.views import json_output, wording


@pytest.mark.parametrize("kind", ComponentKind)
@pytest.mark.parametrize("subject", ["", "rate", "a:b", "np.random.seed"])
def test_a_name_is_split_into_what_it_was_made_of(kind, subject):
    """A subject may contain colons, since only the first one separates."""
    assert split_name(component_name(kind, subject)) == (kind, subject)


@pytest.mark.parametrize("kind", ObservationKind)
def test_each_observation_can_be_a_reason(kind):
    """An observation that no longer holds is a reason with a kind of the same name."""
    assert ComponentKind(kind.value).value == kind.value


def test_users_see_kinds_as_text():
    """JSON for users has one text for kind and subject."""
    reason = Reason.about(ComponentKind.PARAMETER, "0.2", subject="rate", was="0.1")
    assert json_output.reason_objects((reason,)) == [{"component": "parameter:rate", "was": "0.1", "now": "0.2"}]


@pytest.mark.parametrize("name", ["weather", "weather:today"])
def test_a_kind_of_another_version_is_none(name):
    """A record from elsewhere is shown as it is, and never mistaken for a known kind."""
    assert KeyComponent(name, "", "").kind is None
    assert wording.sentence(Reason(name, "rain", "sun")) == f"{name.replace(':', ' ')}: rain → sun"
