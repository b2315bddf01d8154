"""What the package costs: its import, and a call of `Session.run` beyond the run itself."""

import inspect
import subprocess
import sys
import time

import numpy as np
import tract_sparse


def test_everything_public_is_documented():
    for name in tract_sparse.__all__:
        value = getattr(tract_sparse, name)
        if not isinstance(value, str):
            assert inspect.getdoc(value), name
    for name, method in vars(tract_sparse.Session).items():
        if not name.startswith("_"):
            assert inspect.getdoc(method), name


def test_stubs_name_what_there_is():
    from importlib.resources import files

    stubs = (files("tract_sparse") / "_tract_sparse.pyi").read_text()
    for name in tract_sparse.__all__:
        assert f"def {name}(" in stubs or f"class {name}:" in stubs or f"{name}:" in stubs, name
    for name in vars(tract_sparse.Session):
        if not name.startswith("_"):
            assert f"def {name}(" in stubs, name
    assert (files("tract_sparse") / "py.typed").is_file()


def test_import_is_quick():
    program = (
        "import numpy, time\n"
        "start = time.perf_counter()\n"
        "import tract_sparse\n"
        "print(time.perf_counter() - start)\n"
    )
    taken = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(5)]
    print(f"import tract_sparse: {1e3 * min(taken):.1f} ms beyond numpy's")
    assert min(taken) < 0.2


def test_a_call_costs_little():
    """A network of next to no work: what its run takes is the call. `bench` has the time of the run in Rust alone."""
    session = tract_sparse.Session(tract_sparse.zoo("resnet-20", hw=8, width=0.01))
    values = {"input": np.zeros((1, 3, 8, 8), np.float32)}
    for _ in range(100):
        session.run(None, values)
    best = float("inf")
    for _ in range(5):
        alone = session.bench(against=None, inputs=values, seconds=0.2)["sparse"]["median_ms"]
        taken = []
        for _ in range(500):
            start = time.perf_counter()
            session.run(None, values)
            taken.append(time.perf_counter() - start)
        best = min(best, 1e6 * float(np.median(taken)) - 1e3 * alone)
    print(f"Session.run: {best:.1f} microseconds beyond the run in Rust")
    assert best < 20
