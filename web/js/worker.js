/** The same as index.js in a worker, one for every model: a page goes on while it runs. */

const inNode = typeof globalThis.process?.versions?.node === "string";

async function start() {
  if (!inNode) return new Worker(new URL("./worker-thread.js", import.meta.url), { type: "module" });
  const { Worker: NodeWorker } = await import(/* @vite-ignore */ "node:worker_threads");
  const worker = new NodeWorker(new URL("./worker-thread.js", import.meta.url));
  // a program ends when nothing waits for an answer
  worker.unref();
  return worker;
}

/** Loads a model into a worker of its own. */
export async function load(source, options = {}) {
  const { onProgress, ...rest } = options;
  const thread = await Thread.start();
  try {
    const described = await thread.ask("load", [absolute(source), rest], onProgress);
    return new RemoteModel(thread, described);
  } catch (error) {
    thread.end(error.message);
    throw error;
  }
}

/** Makes zeros in the weights of an ONNX file. */
export const prune = (source, recipe) => once("prune", absolute(source), recipe);

/** Where the weights of a model are not zero. */
export const maps = (source) => once("maps", absolute(source));

/** Which build is faster here: "relaxed" or "simd". */
export const build = () => once("build");

/** An answer of a worker that is there for nothing else. */
async function once(method, ...args) {
  const thread = await Thread.start();
  try {
    return await thread.ask(method, args);
  } finally {
    thread.end("it has done its work");
  }
}

/** A worker has a base of its own. */
function absolute(source) {
  if (source instanceof URL) return source.href;
  if (typeof source === "string" && !inNode) return new URL(source, document.baseURI).href;
  return source;
}

class Thread {
  #worker;
  #waiting = new Map();
  #last = 0;
  #ended;

  static async start() {
    const thread = new Thread();
    const worker = (thread.#worker = await start());
    const heard = (answer) => thread.#heard(answer);
    const died = (why) => thread.end(`the worker has stopped: ${why || "it could not be started"}`);
    if (inNode) {
      worker.on("message", heard);
      worker.on("error", (error) => died(error.message));
      worker.on("exit", (code) => died(`exit code ${code}`));
    } else {
      worker.onmessage = ({ data }) => heard(data);
      worker.onerror = (event) => {
        event.preventDefault();
        died(event.message);
      };
      worker.onmessageerror = () => died("an answer that cannot be read");
    }
    return thread;
  }

  ask(method, args, onProgress) {
    if (this.#ended) return Promise.reject(new Error(this.#ended));
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      if (inNode) this.#worker.ref();
      try {
        this.#worker.postMessage({ id, method, args, progress: onProgress !== undefined });
      } catch (error) {
        this.#done(id);
        reject(error);
      }
    });
  }

  /** Ends the worker; who waits, or asks later, is told why. */
  end(why) {
    if (this.#ended) return;
    this.#ended = why;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Error(why));
    this.#waiting.clear();
  }

  #heard({ id, progress, value, error }) {
    const asked = this.#waiting.get(id);
    if (!asked) return;
    if (progress) {
      asked.onProgress?.(progress);
      return;
    }
    this.#done(id);
    if (error) asked.reject(Object.assign(new (error.name === "TypeError" ? TypeError : Error)(error.message)));
    else asked.resolve(value);
  }

  #done(id) {
    this.#waiting.delete(id);
    if (inNode && this.#waiting.size === 0) this.#worker.unref();
  }
}

class RemoteModel {
  #thread;

  constructor(thread, { inputs, outputs, build, loadMs }) {
    this.#thread = thread;
    Object.assign(this, { inputs, outputs, build, loadMs });
  }

  run(feed) {
    return this.#thread.ask("run", [feed]);
  }

  bench(feed, options) {
    return this.#thread.ask("bench", [feed, options]);
  }

  report() {
    return this.#thread.ask("report", []);
  }

  memory() {
    return this.#thread.ask("memory", []);
  }

  free() {
    this.#thread.end("the model was freed");
  }
}
