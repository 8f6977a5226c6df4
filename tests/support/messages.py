"""All that actors can publish, read from the module that declares it."""

from worker_state.protocol import events as m

# Not `__subclasses__()`: a dataclass with slots leaves the class without them behind until it is collected.
_CLASSES = [each for each in vars(m).values() if isinstance(each, type) and issubclass(each, m.Event)]
COMMANDS = tuple(each for each in _CLASSES if issubclass(each, m.Command) and each is not m.Command)
EVENTS = tuple(each for each in _CLASSES if not issubclass(each, m.Command) and each is not m.Event)
