from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Optional, TypedDict, Union

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

__version__: str

_Path = Union[str, PathLike[str]]
_Model = Union[str, PathLike[str], bytes]
_Shapes = Mapping[str, Sequence[Union[int, str]]]
_Arrays = Mapping[str, NDArray[Any]]
_Progress = Callable[[str, Optional[float]], object]
_Sparse = Literal["auto", "measure", "always", "dense", "never"]
_Precision = Literal["f32", "half"]

class NodeArg:
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> list[Union[int, str]]: ...
    @property
    def type(self) -> str: ...

class Session:
    def __new__(
        cls,
        model: _Model,
        *,
        threads: int = 1,
        sparse: Optional[_Sparse] = None,
        target: Optional[str] = None,
        precision: Optional[_Precision] = None,
        inputs: Optional[_Shapes] = None,
    ) -> Session: ...
    @property
    def target(self) -> str: ...
    def get_inputs(self) -> list[NodeArg]: ...
    def get_outputs(self) -> list[NodeArg]: ...
    def run(
        self, output_names: Optional[Sequence[str]], input_feed: _Arrays, run_options: None = None
    ) -> list[NDArray[Any]]: ...
    def report(self) -> list[dict[str, Any]]: ...
    def report_table(self) -> str: ...
    def bench(
        self,
        against: Optional[Literal["stock"]] = "stock",
        *,
        inputs: Optional[_Arrays] = None,
        seconds: float = 1.0,
        progress: Optional[_Progress] = None,
    ) -> dict[str, Any]: ...
    def compare(self, inputs: Optional[_Arrays] = None, *, tolerance: Optional[float] = None) -> dict[str, Any]: ...

class _Rule(TypedDict, total=False):
    name: str
    ratio: float
    structure: str

class _Entries(TypedDict, total=False):
    ratio: Optional[float]
    scope: Optional[Literal["uniform", "global"]]
    conv1x1: Optional[str]
    fc: Optional[str]
    dwconv3x3: Optional[str]
    conv3x3: Optional[str]
    connectivity: Optional[float]
    conv: Optional[str]
    convtranspose: Optional[str]
    recurrent: Optional[str]
    include: Optional[Sequence[str]]
    exclude: Optional[Sequence[str]]
    layer: Optional[Sequence[_Rule]]

def inspect(
    model: _Model,
    *,
    sparse: Optional[_Sparse] = None,
    target: Optional[str] = None,
    precision: Optional[_Precision] = None,
    inputs: Optional[_Shapes] = None,
    measure: bool = False,
    progress: Optional[_Progress] = None,
) -> dict[str, Any]: ...
def prune(
    model: _Model,
    output: Optional[_Path] = None,
    *,
    calibrate: Union[NDArray[np.float32], Iterable[NDArray[np.float32]], None] = None,
    method: Optional[Literal["l1", "wanda", "obc"]] = None,
    rearrange: bool = False,
    search_seconds: float = 30.0,
    seed: int = 1,
    sparse_initializer: bool = False,
    inputs: Optional[_Shapes] = None,
    recipe: Optional[str] = None,
    progress: Optional[_Progress] = None,
    **entries: Unpack[_Entries],
) -> dict[str, Any]: ...
def mask(weights: NDArray[np.float32], zeros: str, *, groups: int = 1) -> NDArray[np.bool_]: ...
def groups(shape: Sequence[int], structure: str, *, groups: int = 1) -> NDArray[np.int64]: ...
def masks(
    layers: Sequence[tuple[str, NDArray[np.float32], int]],
    *,
    share: float = 1.0,
    **entries: Unpack[_Entries],
) -> list[dict[str, Any]]: ...
def convert(
    model: _Path, output: _Path, *, plain: bool = False, weights: Literal["f32", "bf16", "f16"] = "f32"
) -> dict[str, Any]: ...
def zoo(
    network: str,
    output: Optional[_Path] = None,
    *,
    conv1x1: Optional[str] = None,
    dwconv3x3: Optional[str] = None,
    conv3x3: Optional[str] = None,
    fc: Optional[str] = None,
    seed: int = 1,
    batch: Union[int, str, None] = None,
    hw: Optional[int] = None,
    width: float = 1.0,
) -> Optional[bytes]: ...
def layers(model: _Model) -> list[dict[str, Any]]: ...
def named(model: _Model) -> bytes: ...
def write(path: _Path, bytes: bytes) -> None: ...
def main(line: Sequence[str]) -> int: ...
