/** The functions of `tract-sparse`, in a worker for every model: a page goes on while it runs. A worker that dies is an `Error` of what
 * waits for it, and of every later call. */
export * from "./index.js";
