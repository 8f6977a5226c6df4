"""The sabotages of `benchmarks/mutants.py` fit the sources as they are; that each is caught, `make mutants` shows."""

import pytest

from benchmarks.mutants import MUTANTS, SOURCE, Mutant


def test_every_sabotage_still_finds_its_place() -> None:
    """The text that each replaces stands in the source exactly once."""
    lost = [each.name for each in MUTANTS if (SOURCE / each.file).read_text().count(each.old) != 1]
    assert lost == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_sabotage_is_still_a_program(mutant: Mutant) -> None:
    """What cannot even be read would be caught by anybody."""
    compile((SOURCE / mutant.file).read_text().replace(mutant.old, mutant.new), mutant.file, "exec")


def test_there_are_enough_of_them() -> None:
    """At least fifteen, all different."""
    assert len({each.name for each in MUTANTS}) == len({(each.old, each.new) for each in MUTANTS}) == len(MUTANTS) >= 15
