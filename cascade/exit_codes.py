"""How a run or a command ends; 0 is done, in sync, healthy."""

ERROR = 1
ATTENTION = 2
ROLLED_BACK = 3
GATE_FAILED = 4
LOCKED = 5
UNREACHABLE = 6
INVALID = 64
