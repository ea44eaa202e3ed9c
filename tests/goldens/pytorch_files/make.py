"""Writes small PyTorch files that lie beside this script: one LSTM in the ways torch.save has
had, and state dicts that must be refused.

    pip install torch numpy
    python tests/goldens/pytorch_files/make.py

zip.pt           state dict of nn.LSTM(3, 4), as torch.save writes it today
legacy.pt        the same in the format before PyTorch 1.6
whole_module.pt  the same LSTM, saved as a module
projected.pt     state dict of an LSTM with proj_size=2
huge_view.pt     weight_ih_l0 claims 880 MB, all of them one stored element
"""

from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent

torch.manual_seed(0)
lstm = nn.LSTM(3, 4)
state = lstm.state_dict()
torch.save(state, HERE / "zip.pt")
torch.save(state, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
torch.save(lstm, HERE / "whole_module.pt")
torch.save(nn.LSTM(3, 4, proj_size=2).state_dict(), HERE / "projected.pt")

state = nn.LSTM(3, 11, bias=False).state_dict()
state["weight_ih_l0"] = torch.zeros(1).expand(44, 5_000_000)
torch.save(state, HERE / "huge_view.pt")
