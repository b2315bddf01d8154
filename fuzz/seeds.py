#!/usr/bin/env python3
"""Writes the first inputs of the fuzz targets that read files: fuzz/seeds/{npz,nnef,onnx}. Standard library only."""

import io
import os
import struct
import zipfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds"))


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def floats(n, keep=lambda i: True):
    return struct.pack(f"<{n}f", *[(i % 7) - 3 if keep(i) else 0 for i in range(n)])


def npy(descr, shape, data, version=1):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


write("npz/f32.npy", npy("<f4", "(2, 3)", floats(6)))
write("npz/i64_v2.npy", npy("<i8", "(2,)", struct.pack("<2q", 1, -2), version=2))
write("npz/bool.npy", npy("|b1", "(3,)", b"\0\1\1"))
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
    for name, data in [("x.npy", npy("<f4", "(64,)", bytes(256))), ("y.npy", npy("|u1", "()", b"\7"))]:
        z.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
write("npz/two.npz", archive.getvalue())

# The text of a graph, a zero, the bytes of its variables.
HEAD = """version 1.0;

extension tract_registry tract_core;
extension tract_registry tract_sparse;

graph network(x) -> (y) {
  x = external(shape = [1, 8, 5, 5]);
"""
CONV = "stride = [1, 1], dilation = [1, 1], border = \"constant\""


def nnef(name, lines, data=b""):
    write(f"nnef/{name}", (HEAD + "".join(f"  {line};\n" for line in lines) + "}\n").encode() + b"\0" + data)


nnef("blocks", [
    "c = variable<scalar>(label = \"w\", shape = [129])",
    "w = tract_sparse_blocks(c, shape = [8, 8, 1, 1], group = [4, 4], taps = 1)",
    f"y = conv(x, w, 0.0, {CONV}, padding = [(0, 0), (0, 0)])",
], b"\x09" + floats(32))
nnef("patterns", [
    "c = variable<scalar>(label = \"w\", shape = [70])",
    "w = tract_sparse_patterns(c, shape = [8, 1, 3, 3], group = [4, 1], taps = 9)",
    f"y = conv(x, w, 0.0, groups = 0, {CONV}, padding = [(1, 1), (1, 1)])",
], struct.pack("<HH", 1, 0b001000001) + b"\0\0" + floats(16))
nnef("matmul", [
    "r = reshape(x, shape = [8, 25])",
    "c = variable<scalar>(label = \"w\", shape = [80])",
    "w = tract_sparse_blocks(c, shape = [16, 8], group = [1, 1], taps = 1)",
    "y = matmul(w, r)",
], bytes([1, 2] * 8) + floats(16))
nnef("plain", ["w = [[1.0, 0.0], [0.0, 2.0]]", "y = relu(x)"])


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, dims, kind, raw):
    return b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, raw)


def value(name, dims):
    shape = b"".join(field(1, field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def node(op, inputs, output, *attributes):
    names = b"".join(field(1, i) for i in inputs) + field(2, output) + field(3, b"n_" + output)
    return names + field(4, op) + b"".join(field(5, a) for a in attributes)


def ints(name, values):
    return field(1, name) + b"".join(field(8, v) for v in values) + field(20, 7)


def integer(name, number):
    return field(1, name) + field(3, number) + field(20, 2)


def onnx(name, nodes, tensors, x, y, sparse=()):
    graph = b"".join(field(1, n) for n in nodes) + field(2, b"g") + b"".join(field(5, t) for t in tensors)
    graph += field(11, value(b"x", x)) + field(12, value(b"y", y)) + b"".join(field(15, s) for s in sparse)
    write(f"onnx/{name}.onnx", field(1, 8) + field(7, graph) + field(8, field(2, 13)))


F32, I64 = 1, 7
indices = struct.pack("<8q", *range(0, 64, 9))
onnx("sparse_initializer",
     [node(b"Conv", [b"x", b"w"], b"c"), node(b"Relu", [b"c"], b"y")], [], [1, 8, 5, 5], [1, 8, 5, 5],
     [field(1, tensor(b"w", [8], F32, floats(8))) + field(2, tensor(b"", [8], I64, indices))
      + b"".join(field(3, d) for d in [8, 8, 1, 1])])
onnx("conv3x3",
     [node(b"Conv", [b"x", b"w", b"b"], b"y", ints(b"pads", [1] * 4), ints(b"strides", [2, 1]))],
     [tensor(b"w", [4, 4, 3, 3], F32, floats(144, lambda i: i % 9 in (1, 3, 4, 5))), tensor(b"b", [4], F32, floats(4))],
     [1, 4, 6, 6], [1, 4, 3, 6])
onnx("depthwise",
     [node(b"Conv", [b"x", b"w"], b"y", ints(b"pads", [1] * 4), integer(b"group", 4))],
     [tensor(b"w", [4, 1, 3, 3], F32, floats(36, lambda i: i % 9 not in (0, 3, 6)))], [1, 4, 6, 6], [1, 4, 6, 6])
onnx("gemm_matmul",
     [node(b"Gemm", [b"x", b"w", b"b"], b"h", integer(b"transB", 1)), node(b"Relu", [b"h"], b"r"),
      node(b"MatMul", [b"r", b"v"], b"y")],
     [tensor(b"w", [8, 6], F32, floats(48, lambda i: i % 5 == 0)), tensor(b"b", [8], F32, floats(8)),
      tensor(b"v", [8, 3], F32, floats(24, lambda i: i % 4 == 0))], [2, 6], [2, 3])
