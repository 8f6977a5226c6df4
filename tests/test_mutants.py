"""The sabotages of `benchmarks/mutants.py` fit the sources as they are; that each is caught, `make mutants` shows."""

import pytest

from benchmarks.mutants import MUTANTS, ROOT, SOURCE, Mutant


def test_every_sabotage_still_finds_its_place() -> None:
    """The text that each replaces stands in the source exactly once."""
    lost = [each.name for each in MUTANTS if (SOURCE / each.file).read_text().count(each.old) != 1]
    assert lost == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_sabotage_is_still_a_program(mutant: Mutant) -> None:
    """What cannot even be read would be caught by anybody."""
    compile((SOURCE / mutant.file).read_text().replace(mutant.old, mutant.new), mutant.file, "exec")


def test_what_has_to_catch_them_is_there() -> None:
    """Every test file that a sabotage names exists."""
    assert [file for each in MUTANTS for file in each.by if not (ROOT / file).is_file()] == []


def test_there_are_enough_of_them() -> None:
    """At least fifteen, all different."""
    changes = {(each.file, each.old, each.new) for each in MUTANTS}
    assert len({each.name for each in MUTANTS}) == len(changes) == len(MUTANTS) >= 15
