/**
 * A WebAssembly instance for every model: what a model takes goes when it goes, and a panic, after which an instance
 * is in no state to go on, ends one model.
 */

import { compile, pick } from "./builds.js";
import { inNode } from "./source.js";

/** What leaves an instance in the middle of something: a trap, and a stack that ran out, which has two names. */
const ENDS = [WebAssembly.RuntimeError, RangeError, globalThis.InternalError ?? RangeError];

/** Which build is faster here: "relaxed" or "simd". */
export async function build() {
  return (await pick("fastest")).name;
}

/**
 * A new instance of the build `wanted`: "simd", "relaxed", "fastest"; the first if it says nothing.
 *
 * @throws {Error} if there is no build for this engine, or its files cannot be read.
 */
export async function instantiate(wanted, onProgress) {
  const picked = await pick(wanted);
  const [module, { default: glue }] = await Promise.all([compile(picked, onProgress), picked.glue()]);
  const bindings = glue({});
  let panic, memory;
  try {
    // Browsers refuse large modules that are not instantiated asynchronously. Node loads its `fetch` first for that, which takes
    // longer than the rest.
    ({ memory } = inNode ? bindings.initSync({ module }) : await bindings({ module_or_path: module }));
  } catch (cause) {
    throw new Error(`WebAssembly has no memory for another model: ${cause.message}`, { cause });
  }
  bindings.start((text) => { panic = text; });
  return new Instance(picked.name, bindings, memory, () => panic);
}

class Instance {
  #bindings;
  #memory;
  #panic;
  #dead;

  constructor(build, bindings, memory, panic) {
    this.build = build;
    this.#bindings = bindings;
    this.#memory = memory;
    this.#panic = panic;
  }

  /** What `work` returns, which is given the functions of the instance. */
  call(work) {
    if (this.#dead) throw new Error(this.#dead);
    try {
      return work(this.#bindings);
    } catch (error) {
      // Errors that the crate throws leave the instance as it was; these do not.
      if (!ENDS.some((End) => error instanceof End)) throw error;
      this.free(`the model has stopped and must be loaded again: ${this.#reason(error)}`);
      throw new Error(this.#dead, { cause: error });
    }
  }

  /** Why it ended, by the text of the panic. Without one an allocation failed, or the stack ran out. */
  #reason(error) {
    const [place, ...text] = this.#panic()?.split("\n") ?? [];
    const used = `with ${Math.round(this.bytes() / 2 ** 20)} MiB in use`;
    if (!place) return `${error.message}, ${used}: most likely memory ran out`;
    const panic = text.join(" ");
    if (/alloc/.test(panic)) return `memory ran out, ${used}: ${panic}`;
    // where, without the folders of the machine that compiled it
    return `${panic} (${place.replace(/^.* ([^ ]*\/)?([^/ ]+\/src\/)/, "$2").replace(/:$/, "")})`;
  }

  /** Size of its memory. */
  bytes() {
    return this.#memory?.buffer.byteLength ?? 0;
  }

  free(why = "the model was freed") {
    this.#dead ??= why;
    this.#bindings = undefined;
    this.#memory = undefined;
  }
}
