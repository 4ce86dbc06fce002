"""Regenerates tests/goldens/torch/: small files of torch.save, and the same tensors as safetensors.

    pip install torch==2.11.0 safetensors numpy
    python scripts/torch_files.py

expected.safetensors
    Every tensor of tensors.bin, contiguous, as torch itself reads it.
tensors.bin
    All dtypes that torch.save stores by a class of its own, views of every kind (shared, transposed, sliced, with an
    offset), torch.nn.Parameter entries, a scalar and an empty tensor.
old_zip.bin
    tensors.bin as PyTorch 1.6 laid it out: a folder of another name, records not aligned, no byteorder.
protocol_5.bin
    tensors.bin with the newest pickle protocol: frames, memoised names, STACK_GLOBAL.
led/pytorch_model.bin
    The state dict of the golden led_no_global with its tied names, which share one storage, as its model's
    save_pretrained wrote before safetensors.
"""

import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
OUT = GOLDENS / "torch"
TIED = ("led.encoder.embed_tokens.weight", "led.decoder.embed_tokens.weight", "lm_head.weight")


def tensors():
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(6, 8, generator=generator)
    small = torch.tensor([0.0, -0.0, 1.5, -2.25, 6e-8, 3.0e4])
    return OrderedDict(
        float=base,
        tied=base,
        transposed=base.t(),
        row=base[3],
        column=base[:, 5],
        block=base[1:5:2, 2:8:3],
        permuted=torch.randn(2, 3, 4, generator=generator).permute(2, 0, 1),
        half=small.to(torch.float16),
        brain=small.to(torch.bfloat16),
        brain_slice=base.to(torch.bfloat16)[2:4],
        double=base[0].double() / 3,
        long=torch.tensor([-(2**40), -1, 0, 2**62]),
        long_column=torch.arange(12).view(4, 3)[:, 1],
        int=torch.tensor([[-7, 7]], dtype=torch.int32),
        byte=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
        scalar=torch.tensor(0.1),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(torch.randn(3, 2, generator=generator)),
    )


def rewrite_as_old(source, target):
    """Copies the records that PyTorch 1.6 wrote, in its order, without padding."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as old:
        for info in archive.infolist():
            name = info.filename.split("/", 1)[1]
            if name == "data.pkl" or name.startswith("data/") or name == "version":
                old.writestr(zipfile.ZipInfo(f"archive/{name}"), archive.read(info))


def led_state():
    state = OrderedDict(load_file(GOLDENS / "led_no_global" / "model.safetensors"))
    for name in TIED:
        state[name] = state["led.shared.weight"]
    return state


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    saved = tensors()
    torch.save(saved, OUT / "tensors.bin")
    torch.save(saved, OUT / "protocol_5.bin", pickle_protocol=5)
    rewrite_as_old(OUT / "tensors.bin", OUT / "old_zip.bin")
    read = torch.load(OUT / "tensors.bin", weights_only=True)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in read.items()}, OUT / "expected.safetensors")
    (OUT / "led").mkdir(exist_ok=True)
    torch.save(led_state(), OUT / "led" / "pytorch_model.bin")
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(OUT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
