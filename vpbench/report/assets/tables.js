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

    /* A difference is never shown as 0 where it is none. */
    function signed(by, column) {
      const plain = text(by, column), tiny = by !== 0 && !/[1-9∞]/.test(plain);
      return (by > 0 ? "+" : "") + (tiny ? short(by * column.scale) : plain);
    }

    function counted(hint, rows, all, verb) {
      byId(hint).textContent = !rows.length ? "" : `${rows.length > MOST ? `The first ${MOST}` : "All"} of the clips on which A is ${verb}: ${rows.length} of ${all}.`;
    }

    function table(host, rows, column, empty) {
      if (!rows.length) return host.replaceChildren(element("tbody", {}, element("tr", {}, element("td", { class: "text" }, empty))));
      const hash = "#" + new URLSearchParams({ view: "wipe", left: `model ${byId("a").value}`, right: `model ${byId("b").value}` });
      host.replaceChildren(head(["clip", "A", "B", `A − B${column.unit && `,${column.unit}`}`]), element("tbody", {}, ...rows.map((row) => element("tr", {},
        clipName(row.clip, hash),
        element("td", {}, text(row.one, column)),
        element("td", {}, text(row.other, column)),
        element("td", { class: row.good ? "win" : "loss" }, signed(row.by, column))))));
    }

    function draw() {
      const a = Number(byId("a").value), b = Number(byId("b").value), metric = byId("metric").value, column = data.columns[metric];
      const rows = differences().map((row) => ({ ...row, gain: column.higher ? row.by : -row.by, good: (column.higher ? row.by : -row.by) > 0 }));
      rows.sort((one, other) => (one.gain === other.gain ? 0 : other.gain - one.gain));
      const wins = rows.filter((row) => row.gain > 0), losses = rows.filter((row) => row.gain < 0).reverse();
      table(byId("wins"), wins.slice(0, MOST), column, "No clip on which A is better.");
      table(byId("losses"), losses.slice(0, MOST), column, "No clip on which A is worse.");
      counted("wins-hint", wins, rows.length, "better");
      counted("losses-hint", losses, rows.length, "worse");
      const found = interval(a, b, metric), parts = [];
      if (a === b) parts.push("A and B are the same model.");
      else if (!found) parts.push("No common clips with values of the same signature.");
      else {
        const ends = finite(found.low) && finite(found.high) ? `, 95 % interval ${text(found.low, column, 1)} to ${text(found.high, column, 1)}${column.unit}` : "";
        const clear = ends && found.low * found.high > 0;
        const better = (found.difference > 0) === column.higher ? "A" : "B";
        parts.push(`A − B: ${text(found.difference, column, 1)}${column.unit}${ends}, over ${found.clips} clips: ` + (clear ? `${better} is better.` : "no clear difference."));
      }
      if (data.values[metric]) parts.push(`A is better on ${wins.length}, worse on ${losses.length}, equal on ${rows.length - wins.length - losses.length} clips.`);
      else if (found) parts.push("This metric has one value for all clips, so there are no wins and losses.");
      byId("verdict").textContent = parts.join(" ");
      bars = rows;
      redraw ? redraw() : (redraw = drawn(byId("bars"), drawBars));
    }

    let bars = [];

    function drawBars(width) {
      const left = 54, right = 6, top = 24, plot = 190, LETTER = 6.8, WIDEST = 120;
      const column = data.columns[byId("metric").value];
      const shown = bars.filter((row) => Number.isFinite(row.by));
      const space = (width - left - right) / Math.max(shown.length, 1);
      const names = shown.map((row) => (row.clip.name.length > 20 ? row.clip.name.slice(0, 19) + "…" : row.clip.name));
      const longest = Math.max(0, ...names.map((name) => name.length)) * LETTER;
      const upright = longest > space - 6, named = !upright || space >= 14; // names stand on end where they are wider than their slot
      const bottom = !named ? 8 : upright ? longest + 12 : 24, height = top + plot + bottom;
      const scaled = shown.map((row) => row.by * column.scale);
      const [low, high] = range([0, ...scaled]);
      const y = (value) => top + ((height - top - bottom) * (high - value)) / (high - low);
      const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "list", "aria-label": `A − B of ${shown.length} clips, best first, ${column.header}` });
      picture.append(svg("text", { class: "tick", x: 0, y: 12 }, `A − B, ${column.header}`));
      picture.append(...leftAxis(ticks(low, high, 4), y, left, width - right));
      shown.forEach((row, index) => {
        const end = y(scaled[index]), zero = y(0);
        const told = `${row.clip.name}: ${signed(row.by, column)}${column.unit}`, thick = Math.max(Math.min(space * 0.8, WIDEST), 0.5);
        const centre = left + (index + 0.5) * space, under = height - bottom + (upright ? 6 : 16);
        picture.append(svg("rect", {
          class: row.good ? "bar-win" : "bar-loss", x: centre - thick / 2, width: thick, y: Math.min(end, zero), height: Math.max(Math.abs(end - zero), 0.5),
          role: "listitem", "aria-label": told,
        }, svg("title", {}, told)));
        if (named) picture.append(svg("text", upright
          ? { class: "tick", transform: `translate(${centre + 4} ${under}) rotate(-90)`, "text-anchor": "end", "aria-hidden": "true" }
          : { class: "tick", x: centre, y: under, "text-anchor": "middle", "aria-hidden": "true" }, names[index]));
      });
      byId("bars-hint").textContent = `Best first; green where A is better.${named ? "" : " The name of a clip shows under the pointer."}`;
      byId("bars").replaceChildren(picture);
    }

    for (const id of ["a", "b", "metric"]) byId(id).addEventListener("change", draw);
    draw();
  }

  /* ---- quality against seconds ---- */

  const NUMBER = 8; // radius of a point's number

  /*
   * Where the numbers of the points stand: on the point, or, where another number is in the way, near it at the end of a line. A number that
   * moved lies on no other point, and nearer to its own than to any other where there is such a place.
   */
  function numbersAt(dots, box) {
    const far = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by), taken = [];
    return dots.map((dot, index) => {
      const others = dots.filter((_, other) => other !== index);
      const free = (place) => taken.every((other) => far(place, other) >= 2 * NUMBER + 1);
      const inside = ([px, py]) => px >= box.left + NUMBER && px <= box.right && py >= box.top && py <= box.bottom - NUMBER;
      const around = [];
      for (let ring = 2 * NUMBER + 3; ring < 16 * NUMBER; ring += NUMBER) {
        for (let turn = 0; turn < 16; turn++) around.push([dot[0] + ring * Math.cos((turn * Math.PI) / 8), dot[1] + ring * Math.sin((turn * Math.PI) / 8)]);
      }
      const covers = (place) => others.some((other) => far(place, other) < NUMBER + 4);
      const open = around.filter((place) => inside(place) && free(place) && !covers(place));
      const chosen = free(dot) && !covers(dot) ? dot : open.find((place) => others.every((other) => far(place, dot) < far(place, other))) || open[0] || dot;
      taken.push(chosen);
      return chosen;
    });
  }

  function pareto(panel) {
    const data = JSON.parse(byId(panel.dataset.pareto).textContent), names = Object.keys(data.columns);
    const select = panel.querySelector("select"), host = panel.querySelector(".chart"), hint = panel.querySelector("[data-hint]"), key = panel.querySelector("[data-key]");
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
        key.replaceChildren();
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
      const dots = found.map((point) => [x(point.x), y(point.y * column.scale)]);
      numbersAt(dots, { left, top, right: width - right, bottom: height - bottom }).forEach(([nx, ny], index) => {
        const point = found[index], [px, py] = dots[index], fill = point.ranked ? "var(--accent)" : "var(--soft)";
        const parts = nx === px && ny === py ? [] : [svg("line", { class: "leader", x1: px, y1: py, x2: nx, y2: ny }), svg("circle", { cx: px, cy: py, r: 3.5, fill })];
        picture.append(svg("g", { class: "point" }, svg("title", {}, point.label), ...parts,
          svg("circle", { cx: nx, cy: ny, r: NUMBER, fill }), svg("text", { x: nx, y: ny + 4, "text-anchor": "middle" }, String(index + 1))));
      });
      key.replaceChildren(...found.map((point) => element("li", { class: point.ranked ? "pair" : "pair unranked" }, element("bdi", {}, point.label), " ",
        element("span", { class: "value" }, `${text(point.y, column)}${column.unit}, ${short(point.x)} s`))));
      host.replaceChildren(picture);
      const without = data.models.length - found.length - outside.length;
      hint.textContent = "Better is up, faster is left; the dashed line joins the ranked models that no other beats in both. Bars are 95 % intervals."
        + (outside.length ? ` Far off the scale: ${outside.map((point) => `${point.label} (${text(point.y, column)}${column.unit})`).join(", ")}.` : "")
        + (without ? ` ${without} of ${data.models.length} models have no value or no recorded seconds.` : "");
    }

    const redraw = drawn(host, draw);
    select.addEventListener("change", redraw);
  }

  document.querySelectorAll("[data-pareto]").forEach(pareto);
  if (byId("list")) list();
  if (byId("compare")) compare();
})();
