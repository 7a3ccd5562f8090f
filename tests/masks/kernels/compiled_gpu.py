"""Compiles the GPU kernels for a GPU that need not be there, and prints what to know of their code; see test_gpu.py."""

import json
import re
import sys
from collections import Counter

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dropkit.masks.kernels import gpu
from dropkit.masks.kernels import gpu_programs as programs

WIDE = "divisible by 16"


def compiled(program, capability, pointers, constants, integers=None):
    """Return the PTX of a program as a launch with these arguments would compile it."""
    signature, fixed, known = {}, {}, {}
    for place, parameter in enumerate(program.params):
        name = parameter.name
        value = constants.get(name) if parameter.is_constexpr else (integers or {}).get(name)
        if parameter.is_constexpr or value == 1 or (name.endswith("_ptr") and name not in pointers):
            signature[name], fixed[name] = "constexpr", value
        elif name.endswith("_ptr"):
            signature[name] = "*" + pointers[name]
        else:
            signature[name] = parameter.annotation_type or ("fp32" if name == "deviation" else "i32")
        if signature[name].startswith("*") or value == WIDE:
            known[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(program, signature, fixed, known)
    options = {"num_warps": gpu.WARPS, "enable_fp_fusion": gpu._OPTIONS["enable_fp_fusion"]}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"]


def main():
    units = {"RELU": False, "SCALED": True}
    resident = {"key_ptr": "i64", "rate_ptr": "i64"}
    image = {**dict.fromkeys(("rows", "columns", "at_slice", "at_row", "unit_column"), WIDE), "at_column": 1}
    noise = {"rows": 64, "columns": 1, "at_row": 1, "at_column": 1, "unit_column": 0}
    both = {"x_ptr": "bf16", "y_ptr": "bf16"}
    texts = {
        "line": compiled(programs.line, 80, both | resident, {**units, "BITS": 0, "GROUPS": gpu.GROUPS}),
        "grid": compiled(
            programs.grid, 90, both, {**units, "BITS": 16, "SHARED": False, "GROUPS": 4, "WIDTH": 64}, image
        ),
        "noise": compiled(
            programs.noise,
            90,
            {"x_ptr": "fp32", "y_ptr": "fp32", "table_ptr": "fp32"},
            {"GROUPS": gpu.GROUPS, "WIDTH": 1},
            noise,
        ),
        "where_positive": compiled(
            programs.where_positive, 90, {**both, "dy_ptr": "bf16", "dx_ptr": "bf16"}, {"UNITS": 2048}
        ),
    }
    found = {
        name: Counter(re.findall(r"ld\.global\S*|st\.global\S*|fma\S*|div\S*|\S+\.ftz\S*", text))
        for name, text in texts.items()
    }
    json.dump(found, sys.stdout)


main()
