"""Writes torch_types/: tensors of every type that is read, in both formats of `torch.save`.

python tests/golden/make_torch_types.py (needs PyTorch; 2.13 made the stored files)
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "torch_types"


def main() -> None:
    numbers = torch.tensor([[1.0, -2.5, 1 / 3], [65504.0, 0.0, 2.0**-14]])
    tensors = OrderedDict(
        float32=numbers,
        float16=numbers.half(),
        bfloat16=numbers.bfloat16(),
        float64=numbers.double() / 3,
        int64=torch.tensor(2**40),
        transposed=numbers.T,
        part=numbers[1:, 1:],  # of a storage that another tensor has, too
    )
    parameter = torch.nn.Parameter(numbers.bfloat16()[0])
    content = {"model": tensors, "list": [parameter, 3], "step": 7}
    FOLDER.mkdir(exist_ok=True)
    torch.save(content, FOLDER / "zip.pt")
    torch.save(content, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    values = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    np.savez(FOLDER / "values.npz", **values, parameter=parameter.detach().double().numpy())


if __name__ == "__main__":
    main()
