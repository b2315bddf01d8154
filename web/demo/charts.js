/** Bars of layers, and pictures of their weights. */

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const milliseconds = (ms) => (ms >= 10 ? ms.toFixed(1) : ms.toFixed(ms >= 1 ? 2 : 3));

/** Predicted times of every layer, stock above sparse. */
export function layers(into, { layers }) {
  const timed = layers.filter(({ stock_ms }) => stock_ms !== null);
  const longest = Math.max(...timed.map(({ stock_ms, sparse_ms }) => Math.max(stock_ms, sparse_ms ?? 0)), 1e-9);
  into.replaceChildren(...timed.map((layer) => {
    const ours = layer.chosen ? layer.sparse_ms : layer.stock_ms;
    const bar = (ms) => {
      const bar = element("i");
      bar.style.width = `${(100 * ms) / longest}%`;
      return bar;
    };
    const zeros = layer.density === null ? "" : `, ${Math.round(100 * (1 - layer.density))} % zeros`;
    const text = `${layer.name}: stock ${milliseconds(layer.stock_ms)} ms, here ${milliseconds(ours)} ms${zeros}`;
    const bars = element("div", {}, bar(layer.stock_ms), bar(ours));
    bars.setAttribute("role", "img");
    bars.setAttribute("aria-label", text);
    return element("div", { className: "layer", title: layer.reason ? `${text}. ${layer.reason}` : text },
      element("span", {}, element("bdi", { textContent: layer.name })), bars);
  }));
}

const frame = () => new Promise(requestAnimationFrame);

/** Pictures of the weights of layers that have zeros, one in every frame; a later call ends an earlier one. */
export async function maps(into, found) {
  const [red, green, blue] = colour(into);
  const turn = (maps.turn = (maps.turn ?? 0) + 1);
  const some = found.filter(({ data }) => data.includes(0));
  const full = found.length - some.length;
  const hint = `${some.length ? "" : "No layer has zeros yet. "}${full && some.length ? `${full} more layers have none.` : ""}`;
  into.replaceChildren(...(hint ? [element("p", { className: "hint", textContent: hint })] : []));
  for (const { name, rows, columns, data } of some) {
    const canvas = element("canvas", { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    for (let at = 0; at < data.length; at++) image.data.set([red, green, blue, data[at]], 4 * at);
    canvas.getContext("2d").putImageData(image, 0, 0);
    const zeros = data.reduce((sum, value) => sum + (value === 0), 0) / data.length;
    const text = `${name}, ${Math.round(100 * zeros)} % empty`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Weights of ${text}`);
    into.append(element("figure", { title: text }, canvas, element("figcaption", { textContent: text })));
    await frame();
    if (turn !== maps.turn) return;
  }
}

/** The accent colour as numbers. */
function colour(place) {
  const context = element("canvas", { width: 1, height: 1 }).getContext("2d");
  const probe = place.appendChild(element("span"));
  probe.style.color = "var(--ours)";
  context.fillStyle = getComputedStyle(probe).color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}
