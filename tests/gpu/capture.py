"""Makes a script that shows what a machine with NVIDIA GPUs answers to the probe: see docs/reference/gpu.md.

    python tests/gpu/capture.py > probe.py      here, where pynvml is installed
    python3 -IS probe.py > answers.json         there; it needs python3 and the driver's libnvidia-ml.so.1

The answers are of the machine as it is, and while a process holds memory of the first GPU.
"""

from __future__ import annotations

import sys

from operations.snapshot import probe_source

HELD_MIB = 512
HOLDER = """\
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
for code in (
    cuda.cuInit(0),
    cuda.cuDeviceGet(ctypes.byref(device), 0),
    cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device),
    cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(%d)),
):
    if code:
        sys.exit("CUDA: error %%d" %% code)
print("held", flush=True)
sys.stdin.read()
"""
RUNNER = """\
import json, subprocess, sys
PROBE, HOLDER = %r, %r
def asked():
    probe = subprocess.run([sys.executable, "-IS", "-"], input=PROBE, capture_output=True, text=True)
    return json.loads(probe.stdout) if probe.stdout else {"said": probe.stderr}
answers = {"idle": asked()}
holder = subprocess.Popen(
    [sys.executable, "-c", HOLDER],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
)
if holder.stdout.readline() == "held\\n":
    answers["pid"], answers["held"] = holder.pid, asked()
answers["holder said"] = holder.communicate()[1]
print(json.dumps(answers, indent=1))
"""


def script() -> str:
    """The script, which takes the probe and what it needs along."""
    return RUNNER % (probe_source(), HOLDER % (HELD_MIB << 20))


if __name__ == "__main__":
    sys.stdout.write(script())
