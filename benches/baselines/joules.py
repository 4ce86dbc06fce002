"""The energy counter of the GPU that PyTorch computes on, as NVML has it: the same that wattention reads."""

import torch

# The counter is renewed about every 100 ms: a shorter stretch of time says little.
LEAST_SECONDS = 1.0


def counter():
    """A function that gives the joules since the driver was loaded; an exception where there is no such counter."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3


class Spent:
    """Joules from the making of it to `per`, or why they are not known."""

    def __init__(self, on_gpu):
        self.read, self.why = None, "asked of a GPU only"
        if on_gpu:
            try:
                self.read = counter()
                self.before = self.read()
            except Exception as why:
                self.read, self.why = None, str(why) or type(why).__name__

    def per(self, count, seconds):
        """What one of `count` pieces of work took, all of them `seconds`."""
        if self.read and seconds >= LEAST_SECONDS:
            return {"energy_j": (self.read() - self.before) / count}
        why = f"{seconds:.2f} s are too short for the counter" if self.read else self.why
        return {"energy_j": None, "energy_note": f"n/a: {why}"}
