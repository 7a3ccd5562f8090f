import torch

from dropkit.bench.masks import BACKWARD, FRESH, FUSED, INTO, TASKS, mask_cases

SIZES = (64, 1_000)


def test_every_case_computes_what_it_says():
    cases = list(mask_cases(SIZES, (torch.float32, torch.bfloat16), 0.1, "cpu", compiled=False))
    assert [(case.dtype, case.task, case.units) for case in cases] == [
        (dtype, task, units) for dtype in (torch.float32, torch.bfloat16) for task in TASKS for units in SIZES
    ]
    for case in cases:
        assert next(iter(case.calls)) == case.base
        results = {name: call() for name, call in case.calls.items()}
        for result in results.values():
            y = result[0] if isinstance(result, tuple) else result
            assert (y.shape, y.dtype) == ((case.units,), case.dtype)
        size = case.units * case.dtype.itemsize
        assert (
            case.bytes[next(name for name in case.calls if name.startswith("dropkit"))]
            == {INTO: 2, FRESH: 2, BACKWARD: 4, FUSED: 5}[case.task] * size
        )
        assert case.bytes[case.base] == {INTO: 2, FRESH: 2, BACKWARD: 5, FUSED: 5}[case.task] * size


def test_what_is_saved_for_backward_is_counted():
    case = next(
        case for case in mask_cases((1_000,), (torch.float32,), 0.1, "cpu", compiled=False) if case.task == FUSED
    )
    assert case.saved["ReLU"] == 0
    assert case.saved["dropkit"] < 100
    assert case.saved["torch.nn"] >= 4_000
