"use strict";
/* Lists of clips, the comparison of two models, and the plot of quality against seconds. */
(() => {
  const { element, svg, fill, finite, real, text, ticks, short, range, drawn, leftAxis } = Charts;
  const byId = (id) => document.getElementById(id);
  const MOST = 10; // wins and losses that are listed

  const head = (texts) => element("thead", {}, element("tr", {}, ...texts.map((title, index) => element("th", { scope: "col", class: index ? "" : "name" }, title))));

  function clipName(clip, hash = "") {
    const name = element("bdi", {}, clip.name);
    return element("th", { scope: "row", class: "name", title: clip.name }, clip.page ? element("a", { href: clip.page + hash }, name) : name);
  }

  /* ---- clips, worst first ---- */

  function list() {
    const data = window.REPORT, names = Object.keys(data.values);
    const ranked = data.models.some((model) => model.ranked) ? data.models.map((model) => model.ranked) : data.models.map(() => true);
    fill(byId("metric"), names.map((name) => [name, data.columns[name].header]), data.main);
    fill(byId("by"), [["", "mean of ranked models"], ...data.models.map((model, index) => [String(index), model.label])], "");

    function draw() {
      const metric = byId("metric").value, column = data.columns[metric], by = byId("by").value;
      const values = metric ? data.values[metric] : data.models.map(() => []);
      const quality = (clip) => {
        const found = (by === "" ? values.filter((_, model) => ranked[model]) : [values[Number(by)]]).map((line) => real(line[clip] ?? null)).filter((value) => value !== null);
        return found.length ? ((column.higher ? 1 : -1) * found.reduce((sum, value) => sum + value, 0)) / found.length : NaN;
      };
      const order = data.clips.map((clip, index) => [quality(index), index]);
      order.sort(([one, i], [other, j]) => Number.isNaN(one) - Number.isNaN(other) || (one === other || Number.isNaN(one) ? i - j : one - other));
      const rows = order.map(([, clip]) => element("tr", {}, clipName(data.clips[clip]), ...values.map((line) => element("td", {}, text(line[clip], column)))));
      byId("clips").replaceChildren(head(["clip", ...data.models.map((model) => model.label)]), element("tbody", {}, ...rows));
      byId("listed").textContent = `${order.length} clips`;
    }

    byId("metric").addEventListener("change", draw);
    byId("by").addEventListener("change", draw);
    draw();
  }

  /* ---- two models ---- */

  function compare() {
    const data = window.REPORT, names = Object.keys(data.columns);
    const models = data.models.map((model, index) => [String(index), model.label]);
    const wished = new URLSearchParams(location.hash.slice(1));
    fill(byId("a"), models, wished.get("a") || "0");
    fill(byId("b"), models, wished.get("b") || String(Math.min(1, models.length - 1)));
    fill(byId("metric"), names.map((name) => [name, data.columns[name].header]), data.main);
    let redraw = null;

    function differences() {
      const a = Number(byId("a").value), b = Number(byId("b").value), lines = data.values[byId("metric").value];
      if (!lines) return [];
      return data.clips.map((clip, index) => {
        const one = real(lines[a][index]), other = real(lines[b][index]);
        return { clip, one: lines[a][index], other: lines[b][index], by: one === other && one !== null ? 0 : one === null || other === null ? null : one - other };
      }).filter((row) => row.by !== null && !Number.isNaN(row.by));
    }

    function interval(a, b, metric) {
      const [i, j, sign] = a < b ? [a, b, 1] : [b, a, -1];
      const found = i === j ? [] : window.PAIRS[metric][i][j - i - 1];
      if (!found.length) return null;
      const [clips, difference, low, high] = found;
      return sign > 0 ? { clips, difference, low, high } : { clips, difference: -difference, low: high === null ? null : -high, high: low === null ? null : -low };
    }

    function table(host, rows, column, empty) {
      if (!rows.length) return host.replaceChildren(element("tbody", {}, element("tr", {}, element("td", { class: "text" }, empty))));
      const hash = "#" + new URLSearchParams({ view: "wipe", left: `model ${byId("a").value}`, right: `model ${byId("b").value}` });
      host.replaceChildren(head(["clip", "A", "B", "A − B"]), element("tbody", {}, ...rows.map((row) => element("tr", {},
        clipName(row.clip, hash),
        element("td", {}, text(row.one, column)),
        element("td", {}, text(row.other, column)),
        element("td", { class: row.good ? "win" : "loss" }, (row.by > 0 ? "+" : "") + text(row.by, column))))));
    }

    function draw() {
      const a = Number(byId("a").value), b = Number(byId("b").value), metric = byId("metric").value, column = data.columns[metric];
      const rows = differences().map((row) => ({ ...row, gain: column.higher ? row.by : -row.by, good: (column.higher ? row.by : -row.by) > 0 }));
      rows.sort((one, other) => (one.gain === other.gain ? 0 : other.gain - one.gain));
      const wins = rows.filter((row) => row.gain > 0), losses = rows.filter((row) => row.gain < 0).reverse();
      table(byId("wins"), wins.slice(0, MOST), column, "No clip on which A is better.");
      table(byId("losses"), losses.slice(0, MOST), column, "No clip on which A is worse.");
      const found = interval(a, b, metric), parts = [];
      if (a === b) parts.push("A and B are the same model.");
      else if (!found) parts.push("No common clips with values of the same signature.");
      else {
        const ends = finite(found.low) && finite(found.high) ? `, 95 % interval ${text(found.low, column, 1)} to ${text(found.high, column, 1)}` : "";
        const clear = ends && found.low * found.high > 0;
        const better = (found.difference > 0) === column.higher ? "A" : "B";
        parts.push(`A − B: ${text(found.difference, column, 1)}${ends}, over ${found.clips} clips: ` + (clear ? `${better} is better.` : "no clear difference."));
      }
      if (data.values[metric]) parts.push(`A is better on ${wins.length}, worse on ${losses.length}, equal on ${rows.length - wins.length - losses.length} clips.`);
      else if (found) parts.push("This metric has one value for all clips, so there are no wins and losses.");
      byId("verdict").textContent = parts.join(" ");
      bars = rows;
      redraw ? redraw() : (redraw = drawn(byId("bars"), drawBars));
    }

    let bars = [];

    function drawBars(width) {
      const height = 200, left = 54, right = 6, top = 6, bottom = 8;
      const column = data.columns[byId("metric").value];
      const shown = bars.filter((row) => Number.isFinite(row.by));
      const scaled = shown.map((row) => row.by * column.scale);
      const [low, high] = range([0, ...scaled]);
      const y = (value) => top + ((height - top - bottom) * (high - value)) / (high - low);
      const space = (width - left - right) / Math.max(shown.length, 1);
      const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `A − B of ${shown.length} clips, best first` });
      picture.append(...leftAxis(ticks(low, high, 4), y, left, width - right));
      shown.forEach((row, index) => {
        const end = y(scaled[index]), zero = y(0);
        picture.append(svg("rect", {
          class: row.good ? "bar-win" : "bar-loss", x: left + index * space + space * 0.1, width: Math.max(Math.min(space * 0.8, 40), 0.5),
          y: Math.min(end, zero), height: Math.max(Math.abs(end - zero), 0.5),
        }, svg("title", {}, `${row.clip.name}: ${text(row.by, column)}`)));
      });
      byId("bars").replaceChildren(picture);
    }

    for (const id of ["a", "b", "metric"]) byId(id).addEventListener("change", draw);
    draw();
  }

  /* ---- quality against seconds ---- */

  function pareto(panel) {
    const data = JSON.parse(byId(panel.dataset.pareto).textContent), names = Object.keys(data.columns);
    const select = panel.querySelector("select"), host = panel.querySelector(".chart"), hint = panel.querySelector("[data-hint]");
    fill(select, names.map((name) => [name, data.columns[name].header]), data.main);

    function points() {
      const found = data.models.map((model, index) => ({ ...model, x: data.seconds[index], y: (data.values[select.value] || [])[index], ends: data.intervals[select.value][index] }))
        .filter((point) => finite(point.x) && point.x > 0 && finite(point.y));
      const ranked = found.filter((point) => point.ranked).map((point) => point.y);
      if (ranked.length < 2) return { found, outside: [] };
      const [low, high] = [Math.min(...ranked), Math.max(...ranked)], margin = high - low || Math.abs(high) || 1;
      const near = (point) => point.y >= low - margin && point.y <= high + margin; // a ceiling far above would press the others together
      return { found: found.filter(near), outside: found.filter((point) => !near(point)) };
    }

    function draw(width) {
      const column = data.columns[select.value], { found, outside } = points();
      if (!found.length) {
        hint.textContent = "No model has both a value and recorded seconds.";
        return host.replaceChildren();
      }
      const height = 300, left = 54, right = 14, top = 10, bottom = 40;
      const sign = column.higher ? 1 : -1;
      const [low, high] = range(found.flatMap((point) => [point.y, ...(point.ranked ? point.ends : [])]).map((value) => value * column.scale));
      const logs = found.map((point) => Math.log10(point.x));
      const from = Math.min(...logs) - 0.15, to = Math.max(...logs) + 0.15;
      const x = (seconds) => left + ((width - left - right) * (Math.log10(seconds) - from)) / (to - from);
      const up = (value) => (sign > 0 ? (high - value) / (high - low) : (value - low) / (high - low));
      const y = (value) => top + (height - top - bottom) * up(value); // better is always higher up
      const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${column.header} against seconds per frame of ${found.length} models` });
      picture.append(...leftAxis(ticks(low, high, 5), y, left, width - right));
      for (let power = Math.floor(from); power <= to; power++) {
        for (const factor of to - from > 2 ? [1] : [1, 2, 5]) {
          const seconds = factor * 10 ** power;
          if (Math.log10(seconds) < from || Math.log10(seconds) > to) continue;
          picture.append(svg("line", { class: "axis", x1: x(seconds), x2: x(seconds), y1: top, y2: height - bottom }));
          picture.append(svg("text", { class: "tick", x: x(seconds), y: height - bottom + 16, "text-anchor": "middle" }, short(seconds)));
        }
      }
      picture.append(svg("text", { class: "tick", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "seconds per frame (log)"));
      const front = [];
      for (const point of found.filter((one) => one.ranked).sort((one, other) => one.x - other.x || sign * (other.y - one.y))) {
        if (!front.length || sign * (point.y - front[front.length - 1].y) > 0) front.push(point);
      }
      picture.append(svg("path", { class: "front", d: front.map((point, index) => (index ? `H${x(point.x)}V${y(point.y * column.scale)}` : `M${x(point.x)} ${y(point.y * column.scale)}`)).join("") }));
      for (const { ranked, ends, x: seconds } of found) {
        if (ranked && ends.every(finite) && ends.length) picture.append(svg("line", { class: "whisker", x1: x(seconds), x2: x(seconds), y1: y(ends[0] * column.scale), y2: y(ends[1] * column.scale) }));
      }
      const used = [], CROWDED = 26; // pixels: a name further from its point would seem to belong to another one
      let nameless = 0;
      for (const point of [...front, ...found.filter((one) => !front.includes(one))]) {
        const label = point.label.length > 24 ? point.label.slice(0, 23) + "…" : point.label;
        const [px, py] = [x(point.x), y(point.y * column.scale)], toLeft = px > left + (width - left - right) * 0.6;
        const [from, to] = toLeft ? [px - 8 - 6.6 * label.length, px - 8] : [px + 8, px + 8 + 6.6 * label.length];
        let at = py + 4;
        while (used.some((other) => Math.abs(other.at - at) < 13 && other.from < to && from < other.to) && at > top + 13) at -= 13; // labels must not lie on each other
        const crowded = py + 4 - at > CROWDED;
        if (crowded) nameless++;
        else used.push({ at, from, to });
        const fade = point.ranked ? 1 : 0.55;
        picture.append(
          svg("circle", { cx: px, cy: py, r: 5, fill: point.ranked ? "var(--accent)" : "var(--soft)" }, svg("title", {}, `${point.label}: ${text(point.y, column)}, ${short(point.x)} s per frame`)),
          svg("text", { x: toLeft ? px - 8 : px + 8, y: at, "text-anchor": toLeft ? "end" : "start", opacity: fade }, crowded ? "" : label));
      }
      host.replaceChildren(picture);
      const without = data.models.length - found.length - outside.length;
      hint.textContent = "Better is up, faster is left; the dashed line joins the ranked models that no other beats in both. Bars are 95 % intervals."
        + (outside.length ? ` Far off the scale: ${outside.map((point) => `${point.label} (${text(point.y, column)})`).join(", ")}.` : "")
        + (nameless ? ` ${nameless} crowded points show their name under the pointer.` : "")
        + (without ? ` ${without} of ${data.models.length} models have no value or no recorded seconds.` : "");
    }

    const redraw = drawn(host, draw);
    select.addEventListener("change", redraw);
  }

  document.querySelectorAll("[data-pareto]").forEach(pareto);
  if (byId("list")) list();
  if (byId("compare")) compare();
})();
