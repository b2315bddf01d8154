/** A type that tract and typed arrays share. */
export type ElementType =
  | "float16" | "float32" | "float64"
  | "int8" | "int16" | "int32" | "int64"
  | "uint8" | "uint16" | "uint32" | "uint64"
  | "bool";

/** Values of a tensor: `float16` as bits in a Uint16Array (inputs also as a Float16Array), `bool` as 0 and 1 in a Uint8Array. */
export type TensorData =
  | Float32Array | Float64Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

/** A tensor, row by row: the last dimension varies fastest. */
export interface Tensor<Data extends TensorData = TensorData> {
  data: Data;
  /** Sizes; without them those of the input, if it has no symbols. */
  dims?: number[];
}

/** What `run` returns for an output. */
export interface OutputTensor<Data extends TensorData = TensorData> {
  type: ElementType;
  data: Data;
  dims: number[];
}

/** An input or an output of a model. */
export interface ValueInfo {
  name: string;
  type: ElementType;
  /** Sizes; a text where any size will do. */
  dims: (number | string)[];
}

/** When layers run sparse: where a gain is predicted, wherever a weight is zero, as `auto` in models without zeros too, nowhere. */
export type Sparse = "auto" | "always" | "dense" | "never";

/** What layers compute in: `half` is 16 bits where there are kernels for that, which WebAssembly has none of: the report says so. */
export type Precision = "f32" | "half";

/**
 * `simd` multiplies and adds apart and answers as on every other target; `relaxed` has fused multiply-adds, and a NaN that
 * meets a clamp may become its bound.
 */
export type Build = "simd" | "relaxed";

export interface Progress {
  /** The WebAssembly module, the bytes of the model, what is made of them. The first two go on side by side. */
  phase: "runtime" | "model" | "prepare";
  /** Bytes; 0 or 1 where nobody counts. */
  loaded: number;
  /** Bytes there are, where that is known. */
  total?: number;
}

export interface LoadOptions {
  /** Default: `auto`. */
  sparse?: Sparse;
  /** Default: `f32`. */
  precision?: Precision;
  /** Shapes of inputs in the place of those of the file; a text is a symbol. */
  inputs?: Record<string, (number | string)[]>;
  onProgress?: (progress: Progress) => void;
  /** Default: `simd`. Which is the fastest here takes some milliseconds to find out, once. */
  build?: Build | "fastest";
}

/** One layer: what runs it, and why it stays on stock tract if it does. Times are predicted, in milliseconds. */
export interface LayerReport {
  name: string;
  op: string;
  kind: string | null;
  oc: number;
  ic: number;
  kernel: string;
  stride: string;
  output: string;
  /** Share of weights that are not zero. */
  density: number | null;
  /** Structure of the zeros, with the share of groups that are zero: `4x4:0.5`, `3:9`, `dense`. */
  zeros: string | null;
  /** The kernel that runs it, if it runs here. */
  chosen: string | null;
  /** Numbers that the model has it in, if these are `f16`, which is not what it computes in here. */
  model_type: string | null;
  /** Numbers that it computes in, if it runs here. */
  precision: string | null;
  /** Why these are f32 though half precision was asked for. */
  why_f32: string | null;
  reason: string | null;
  stock_ms: number | null;
  sparse_ms: number | null;
  share: number | null;
}

export interface Report {
  /** Instructions of the kernels. */
  target: string;
  /** Why no layer can have half precision though it was asked for. */
  precision_note: string | null;
  layers_sparse: number;
  layers: LayerReport[];
  /** A table for people. */
  text: string;
}

/** A model that is ready to run. */
export interface Model {
  readonly inputs: ValueInfo[];
  readonly outputs: ValueInfo[];
  readonly build: Build;
  /** Milliseconds from the bytes to a model that is ready. */
  readonly loadMs: number;
  /**
   * Runs it on a tensor for every input, by name. Runs of one model are one after the other.
   *
   * @throws {TypeError} for data of another type; {Error} for names that are missing or unknown and for other sizes, which name the
   * input; for a model that cannot run. If WebAssembly runs out of memory, the model has to be loaded again, as the message says.
   */
  run(inputs: Record<string, Tensor>): Promise<Record<string, OutputTensor>>;
  /** Milliseconds of each of some runs, outputs copied. */
  bench(inputs: Record<string, Tensor>, options?: { runs?: number }): Promise<Float64Array>;
  /** What runs each layer, and why the others stay on stock tract. */
  report(): Promise<Report>;
  /** Bytes of memory that it has in WebAssembly, its weights among them. */
  memory(): Promise<number>;
  /** Lets go of the model and its memory. It can do nothing more; calling it twice does no harm. */
  free(): void;
}

/**
 * Loads a model: an ONNX file, or an NNEF archive (`.nnef.tgz`, `.nnef.tar`) as the command `tract-sparse convert` writes it.
 *
 * @param source Bytes, or where they are: a URL, in Node a path, too.
 * @throws {TypeError} for options that make no sense; {Error} for an engine without SIMD, for what cannot be read, for bytes that are no
 * model, for operators that tract lacks and for shapes that do not suit the model.
 */
export function load(
  source: ArrayBuffer | ArrayBufferView | Blob | URL | string,
  options?: LoadOptions,
): Promise<Model>;

/**
 * Makes zeros in the weights of an ONNX file by magnitude, without training.
 *
 * @param recipe What to prune, in the words of docs/cli.md: `ratio = 0.5`, with `conv1x1 = "4x4"`, `dwconv3x3 = "3:9"` and more as lines.
 * @returns The file.
 * @throws {Error} for bytes that are no ONNX file, a recipe that makes no sense, or one that suits no layer.
 */
export function prune(
  source: ArrayBuffer | ArrayBufferView | Blob | URL | string,
  recipe: string,
): Promise<Uint8Array>;

/** Where the weights of a layer are not zero: a picture, row by row, one cell for a weight or a few. */
export interface WeightMap {
  name: string;
  rows: number;
  columns: number;
  /** Share of the weights of a cell that are not zero, of 255. */
  data: Uint8Array;
}

/**
 * Pictures of the weights of a model, for the layers that have any, in the order in which they run.
 *
 * @throws {Error} for bytes that are no model.
 */
export function maps(source: ArrayBuffer | ArrayBufferView | Blob | URL | string): Promise<WeightMap[]>;

/** Which build is faster here. */
export function build(): Promise<Build>;
