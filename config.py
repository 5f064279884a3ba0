"""pyinfra's settings, read before the inventory."""

from pyinfra.context import config, ctx_state

from operations.run import Run

config.REQUIRE_PYINFRA_VERSION = "==3.10.0"
config.FAIL_PERCENT = 0

Run.begin(ctx_state.get())
