"""What a seed stands for: who is in the world, for how long, which faults may happen, and how it ends.

A run allows only some of the faults, so that each gets worlds in which the others do not cover it up (swarm testing).
"""

from dataclasses import dataclass
from random import Random

from tests.simulation.floods import FAULTS
from tests.simulation.strangers import RENEWALS
from worker_state.devserver.identities import Generation

CATALOGUE = tuple(FAULTS)


@dataclass(frozen=True)
class Plan:
    """One run, all of it decided."""

    seed: int
    level: str = "fast"
    """`fast`: frames. `bytes`: WebSocket over byte streams."""
    generation: Generation = "v2"
    kinds: tuple[str, ...] = ("own",)
    """How each worker comes into a room: `own`, `member`, `key`."""
    programs: tuple[str, ...] = ("idle",)
    """What each worker does: `idle`, `jobs`, `restless`."""
    token_life: float = 3600.0
    seconds: float = 300.0
    """How long faults go on."""
    interval: float = 5.0
    """Seconds between faults, on average."""
    faults: tuple[str, ...] = CATALOGUE
    end: str = "heals"
    """`heals`: all faults stop. `never`: none does. `web dead`, `one cut off`: all but this one stop."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.level}, {self.generation}, {len(self.kinds)} workers, {self.seconds:.0f} s, "
            f"a fault every {self.interval:g} s, {self.end}; {'/'.join(self.kinds)}; {'/'.join(self.programs)}; "
            f"{', '.join(self.faults)}"
        )


def draw(seed: int) -> Plan:
    """The plan of this seed: 0 has no fault at all, the first ones let each happen alone, the others mix them."""
    if seed == 0:
        return Plan(seed=0, kinds=("own", "member"), programs=("restless", "restless"), seconds=1200.0, faults=())
    if seed <= len(CATALOGUE):
        return alone(seed)
    chance = Random(f"{seed} plan")
    generation: Generation = "v2" if chance.random() < 0.75 else "v3"
    count = chance.choice((1, 2, 3, 4, 6))
    kinds = tuple(
        chance.choice(("own", "own", "member") if generation == "v2" else ("own", "key", "member"))
        for _ in range(count)
    )
    programs = tuple(chance.choice(("idle", "idle", "jobs", "restless")) for _ in range(count))
    long = chance.random() < 0.04
    level = "bytes" if chance.random() < 0.2 else "fast"
    end = chance.choice(("heals",) * 6 + ("never", "never", "web dead", "one cut off"))
    faults = CATALOGUE
    if end == "web dead":
        faults = tuple(name for name in faults if name not in RENEWALS and "web" not in name and "leave" not in name)
    if chance.random() < 0.75:
        faults = tuple(chance.sample(faults, chance.choice((1, 2, 4, 8))))
    return Plan(
        seed=seed,
        level=level,
        generation=generation,
        kinds=kinds,
        programs=programs,
        token_life=3600.0 if end == "web dead" else chance.choice((3600.0, 3600.0, 600.0, 300.0)),
        seconds=3 * 3600.0 if long else chance.uniform(40, 300),
        interval=chance.uniform(120, 600) if long else chance.choice((0.3, 0.7, 2.0, 6.0)),
        faults=faults,
        end=end,
    )


def alone(seed: int) -> Plan:
    """One fault only, now and then, to workers that mostly do nothing: nothing else heals by chance what it does."""
    name = CATALOGUE[seed - 1]
    v2 = seed % 3 != 0
    return Plan(
        seed=seed,
        level="bytes" if seed % 4 == 1 else "fast",
        generation="v2" if v2 else "v3",
        kinds=("own", "own", "member", "own") if v2 else ("own", "member", "key", "key"),
        programs=("idle", "idle", "idle", "jobs"),
        seconds=240.0,
        interval=15.0 if seed % 2 else 40.0,
        faults=(name,),
    )


def calm(seed: int, hours: float = 5.0) -> Plan:
    """A world in which nothing goes wrong."""
    generation: Generation = "v2" if seed % 3 else "v3"
    kinds = ("own", "member", "own", "member") if generation == "v2" else ("own", "key", "member", "key")
    return Plan(
        seed=seed,
        generation=generation,
        kinds=kinds,
        programs=("idle", "idle", "jobs", "jobs"),
        seconds=hours * 3600.0,
        faults=(),
    )
