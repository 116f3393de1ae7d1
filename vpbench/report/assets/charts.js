"use strict";
/* Plots as SVG, and small helpers that all pages share. Names of models and clips enter the page as text only, never as HTML. */
const Charts = (() => {
  const SPACE = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

  function element(name, attributes = {}, ...children) {
    const made = name.startsWith("svg:") ? document.createElementNS(SPACE, name.slice(4)) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const svg = (name, attributes, ...children) => element("svg:" + name, attributes, ...children);

  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, text]) => {
      const option = element("option", { value }, text.length > 80 ? text.slice(0, 79) + "…" : text);
      option.selected = value === chosen;
      return option;
    }));
  }

  const colour = (index) => `var(--c${index % 8})`;
  const dash = (index) => DASHES[Math.floor(index / 8) % DASHES.length];
  const finite = (value) => typeof value === "number";
  const real = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value); // null stays: no value

  /* A value as people read it: in the table's scale and digits; "digits" may ask for more of them. */
  function text(value, column, more = 0) {
    if (value === null || value === undefined) return "–";
    const number = real(value);
    if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
    return (number * column.scale).toFixed(column.digits + more).replace("-", "−");
  }

  /* About "count" round numbers from low to high. */
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
    return found;
  }

  const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

  function range(values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) if (finite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
    if (low > high) return [0, 1];
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    return [low - margin, high + margin];
  }

  /* Draw now and again whenever the width of the host changes. */
  function drawn(host, draw) {
    let width = 0;
    const again = () => {
      if (host.clientWidth && host.clientWidth !== width) draw((width = host.clientWidth));
    };
    new ResizeObserver(again).observe(host);
    again();
    return () => draw((width = host.clientWidth || width || 600));
  }

  function leftAxis(values, y, left, right) {
    return values.flatMap((value) => [
      svg("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)),
    ]);
  }

  return { element, svg, fill, colour, dash, finite, real, text, ticks, short, range, drawn, leftAxis };
})();
