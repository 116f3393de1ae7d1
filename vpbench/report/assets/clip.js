"use strict";
/*
 * The page of a clip: players that show the same frame, and the curves with their cursor.
 *
 * One player leads; the others follow its clock, by a slightly changed speed or, when far off, by a jump. While nothing plays, the frame
 * number is the truth, and every player is moved to the middle of that frame, so that rounding never shows its neighbour.
 * Each video carries what it really shows in data-shown.
 */
(() => {
  const { element, svg, fill, colour, dash, finite, real, text, ticks, short, range, drawn, leftAxis } = Charts;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const fps = data.fps;
  const last = Math.max(data.frames - 1, 0);
  const stage = byId("stage"), panes = byId("panes"), grid = byId("players");
  const gridVideos = [...grid.querySelectorAll("video")];
  const stageVideos = [...panes.querySelectorAll("video")];
  const onScreen = new Set(); // videos in or near the window; the others are not loaded
  const JUMP = 0.25; // seconds apart from which a follower jumps
  const LOAD_TIMEOUT = 3000; // ms that starting waits for slow players
  let frame = 0, playing = false, started = 0, view = "grid";

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const middle = (number) => (number + 0.5) / fps;
  const frameAt = (seconds) => clamp(Math.floor(seconds * fps + 0.01), 0, last);
  const active = () => (view === "grid" ? gridVideos.filter((video) => onScreen.has(video)) : stageVideos).filter((video) => video.src);
  const ready = (video) => (video.readyState >= 2 && !video.seeking) || video.error;

  /* ---- one player ---- */

  function load(video, source) {
    if (video.getAttribute("src") === source) return;
    delete video.dataset.shown;
    if (!source) {
      video.pause();
      video.removeAttribute("src");
      video.load();
      return;
    }
    video.src = source;
    video.preload = "auto";
    video.load();
    video.wanted = frame;
  }

  function seek(video, number) {
    video.wanted = number;
    if (video.readyState >= 1 && !video.seeking) video.currentTime = middle(number);
  }

  function arrived(video) { // a seek is over, or the video's header is there: go on to the newest wish
    if (video.wanted === undefined || playing && !video.paused) return;
    if (Math.abs(video.currentTime - middle(video.wanted)) > 0.25 / fps) video.currentTime = middle(video.wanted);
  }

  function watch(video) {
    const shows = (seconds) => { video.dataset.shown = frameAt(seconds); };
    const still = () => video.paused && !video.seeking;
    video.addEventListener("loadedmetadata", () => arrived(video));
    video.addEventListener("loadeddata", () => { if (playing) follow(video); });
    video.addEventListener("seeked", () => {
      arrived(video);
      if (still()) shows(video.currentTime); // Chromium now and then leaves out the callback for this frame
    });
    if ("requestVideoFrameCallback" in video) {
      const callback = (now, meta) => {
        shows(still() ? video.currentTime : meta.mediaTime + 0.001);
        video.requestVideoFrameCallback(callback);
      };
      video.requestVideoFrameCallback(callback);
    } else {
      video.addEventListener("timeupdate", () => shows(video.currentTime));
    }
  }

  /* ---- all players ---- */

  function go(number) {
    frame = clamp(Math.round(number), 0, last);
    active().forEach((video) => seek(video, frame));
    show();
  }

  function step(by) {
    pause();
    go(frame + by);
  }

  async function play() {
    if (!active().length) return;
    const mine = ++started;
    playing = true;
    buttons();
    go(frame >= last ? 0 : frame);
    const videos = active();
    const deadline = performance.now() + LOAD_TIMEOUT;
    while (!videos.every(ready) && performance.now() < deadline) {
      await new Promise((next) => setTimeout(next, 10));
      if (!playing || mine !== started) return;
    }
    await Promise.all(videos.map(start));
    if (playing && mine === started) requestAnimationFrame(() => tick(mine));
  }

  function start(video) {
    delete video.wanted;
    video.playbackRate = speed();
    return video.play().catch(() => {}); // interrupted by a pause, or not playable: the others go on
  }

  function pause() {
    if (!playing) return;
    playing = false;
    started++;
    buttons();
    active().forEach((video) => { video.pause(); video.playbackRate = speed(); });
    go(frame);
  }

  const speed = () => Number(byId("speed").value);
  const leader = () => active().find((video) => video.readyState >= 2 && !video.error);

  function tick(mine) {
    if (!playing || mine !== started) return;
    const lead = leader();
    if (lead) {
      if (lead.ended || lead.currentTime >= (last + 1) / fps) return atEnd();
      frame = lead.dataset.shown === undefined ? frameAt(lead.currentTime) : Number(lead.dataset.shown);
      show();
      active().forEach((video) => { if (video !== lead) follow(video, lead); });
    }
    requestAnimationFrame(() => tick(mine));
  }

  function follow(video, lead = leader()) {
    if (!lead || lead === video || video.seeking || video.readyState < 2) return;
    const ahead = video.currentTime - lead.currentTime;
    if (Math.abs(ahead) > JUMP && performance.now() - (video.jumped || 0) > 500) {
      video.jumped = performance.now();
      video.currentTime = clamp(lead.currentTime, 0, (last + 0.5) / fps);
    } else {
      const wanted = Math.abs(ahead) < Math.min(0.1 / fps, 0.01) ? 1 : clamp(1 - 6 * ahead, 0.6, 1.5);
      if (Math.abs(video.playbackRate - speed() * wanted) > 0.02 * speed()) video.playbackRate = speed() * wanted;
    }
    if (video.paused && !video.ended) start(video);
  }

  function atEnd() {
    frame = last;
    if (byId("loop").checked) return play();
    pause();
  }

  function buttons() {
    byId("play").textContent = playing ? "❚❚" : "▶";
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function show() {
    byId("frame").value = frame;
    byId("frame").setAttribute("aria-valuetext", `frame ${frame + 1} of ${last + 1}`);
    byId("counter").textContent = `${frame + 1} / ${last + 1}`;
    cursor();
  }

  /* ---- views ---- */

  const SOURCES = new Map(); // what the two players of the stage can show
  for (const video of gridVideos) {
    const { name, model } = video.closest("figure").dataset;
    SOURCES.set(model === undefined ? name : `model ${model}`, { label: name, source: video.dataset.video });
    if (video.dataset.error) SOURCES.set(`error ${model}`, { label: `${name}, error`, source: video.dataset.error });
  }

  function stageSources() {
    for (const side of ["left", "right"]) {
      const chosen = SOURCES.get(byId(side).value);
      const pane = panes.querySelector(`[data-side="${side}"]`);
      load(pane.querySelector("video"), view === "grid" || !chosen ? "" : chosen.source);
      pane.querySelector("video").setAttribute("aria-label", chosen ? chosen.label : "");
      pane.querySelector("figcaption").replaceChildren(element("bdi", { class: "label" }, chosen ? chosen.label : ""));
    }
    legend();
  }

  function gridSources() {
    const errors = byId("errors").checked;
    for (const video of gridVideos) {
      const source = errors && video.dataset.error ? video.dataset.error : video.dataset.video;
      load(video, view === "grid" && onScreen.has(video) ? source : "");
    }
    legend();
  }

  function legend() {
    const onStage = ["left", "right"].some((side) => byId(side).value.startsWith("error "));
    byId("legend").hidden = view === "grid" ? !byId("errors").checked : !onStage;
  }

  function setView(wanted) {
    pause();
    view = wanted;
    grid.hidden = view !== "grid";
    stage.hidden = view === "grid";
    stage.classList.toggle("wiping", view === "wipe");
    for (const only of document.querySelectorAll(".only-grid")) only.hidden = view !== "grid";
    for (const only of document.querySelectorAll(".only-wipe")) only.hidden = view !== "wipe";
    gridSources();
    stageSources();
  }

  function wipeTo(percent) {
    byId("wipe").value = percent;
    panes.style.setProperty("--wipe", `${byId("wipe").value}%`);
  }

  function dragWipe(event) {
    if (view !== "wipe" || (event.type === "pointermove" && !event.buttons)) return;
    const box = panes.getBoundingClientRect();
    wipeTo(clamp((100 * (event.clientX - box.left)) / box.width, 0, 100));
  }

  /* ---- curves ---- */

  const columns = Object.keys(data.columns);
  const chart = byId("chart");
  let metric = data.main, place = null, line = null;

  function draw(width) {
    const height = 260, left = 54, right = 10, top = 8, bottom = 24;
    const lines = data.curves[metric].map((values) => values.map(real)), scale = data.columns[metric].scale;
    const [low, high] = range(lines.flat().filter(Number.isFinite).map((value) => value * scale));
    place = (number) => left + ((width - left - right) * number) / Math.max(last, 1);
    const y = (value) => top + ((height - top - bottom) * (high - value)) / (high - low);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${data.columns[metric].header}, frame by frame, of ${data.models.length} models` });
    picture.append(...leftAxis(ticks(low, high, 5), y, left, width - right));
    for (const number of ticks(0, last, Math.max(2, Math.floor(width / 90))).filter(Number.isInteger)) {
      picture.append(svg("text", { class: "tick", x: place(number), y: height - 6, "text-anchor": "middle" }, String(number + 1)));
    }
    lines.forEach((values, model) => {
      let path = "", open = false;
      values.forEach((value, number) => {
        if (!finite(value) || !Number.isFinite(value)) { open = false; return; }
        path += `${open ? "L" : "M"}${place(number).toFixed(1)} ${y(value * scale).toFixed(1)}`;
        if (!open && !Number.isFinite(values[number + 1] ?? NaN)) path += "h0.1"; // a value alone is a dot
        open = true;
      });
      if (path) picture.append(svg("path", { class: "curve", d: path, stroke: colour(model), "stroke-dasharray": dash(model), "stroke-linecap": "round" }));
    });
    line = svg("line", { class: "cursor", y1: top, y2: height - bottom });
    picture.append(line);
    chart.replaceChildren(picture);
    const { cap, unit } = data.columns[metric];
    byId("cap").textContent = cap === null ? "" : `Values are capped at ${cap * scale}${unit}, in the players' captions and in the table below; the curves leave gaps where a frame is exact.`;
    cursor();
  }

  function now(value, column) { // capped like the clip's value in the tables, so that both say the same of an exact frame
    const capped = column.cap !== null && value !== null && real(value) > column.cap;
    return text(capped ? column.cap : value, column) + (value === null ? "" : column.unit) + (capped ? " (cap)" : "");
  }

  function cursor() {
    if (!line) return;
    line.setAttribute("x1", place(frame));
    line.setAttribute("x2", place(frame));
    line.dataset.frame = frame;
    for (const figure of grid.querySelectorAll("[data-model]")) {
      const values = data.curves[metric][Number(figure.dataset.model)] || [];
      figure.querySelector(".now").textContent = values.length ? `${metric}, this frame: ${now(values[frame] ?? null, data.columns[metric])}` : "";
    }
  }

  function pick(event) {
    if (event.type === "pointermove" && !event.buttons) return;
    const picture = chart.querySelector("svg"), box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) * picture.viewBox.baseVal.width) / box.width;
    pause();
    go(((x - place(0)) * Math.max(last, 1)) / Math.max(place(last) - place(0), 1));
  }

  /* ---- what people do ---- */

  function keys(event) {
    const target = event.target;
    if (event.ctrlKey || event.altKey || event.metaKey || target.matches("select, input[type=radio], #wipe")) return;
    const size = event.shiftKey ? 10 : 1;
    const actions = {
      " ": () => (playing ? pause() : play()),
      ArrowLeft: () => step(-size),
      ArrowRight: () => step(size),
      Home: () => step(-Infinity),
      End: () => step(Infinity),
    };
    if (!(event.key in actions) || (event.key === " " && target.matches("button, a, summary, input[type=checkbox]"))) return;
    event.preventDefault();
    actions[event.key]();
  }

  byId("frame").max = last;
  byId("play").addEventListener("click", () => (playing ? pause() : play()));
  byId("back").addEventListener("click", () => step(-1));
  byId("forward").addEventListener("click", () => step(1));
  byId("frame").addEventListener("input", (event) => { const wanted = event.target.valueAsNumber; pause(); go(wanted); });
  byId("speed").addEventListener("change", () => active().forEach((video) => { video.playbackRate = speed(); }));
  byId("errors").addEventListener("change", () => { pause(); gridSources(); });
  for (const side of ["left", "right"]) byId(side).addEventListener("change", () => { pause(); stageSources(); });
  for (const choice of document.querySelectorAll("input[name=view]")) choice.addEventListener("change", () => setView(choice.value));
  byId("wipe").addEventListener("input", () => wipeTo(byId("wipe").value));
  panes.addEventListener("pointerdown", dragWipe);
  panes.addEventListener("pointermove", dragWipe);
  chart.addEventListener("pointerdown", pick);
  chart.addEventListener("pointermove", pick);
  document.addEventListener("keydown", keys);

  const wished = new URLSearchParams(location.hash.slice(1)); // as the comparison of two models links here: view, left, right, frame
  const models = [...SOURCES.keys()].filter((key) => key.startsWith("model "));
  const options = [...SOURCES].map(([key, source]) => [key, source.label]);
  const chosen = (side, otherwise) => (SOURCES.has(wished.get(side)) ? wished.get(side) : otherwise);
  fill(byId("left"), options, chosen("left", models[0]));
  fill(byId("right"), options, chosen("right", SOURCES.has("reference") ? "reference" : models[1] || models[0]));
  fill(byId("metric"), columns.map((name) => [name, data.columns[name].header]), metric);
  byId("metric").addEventListener("change", (event) => { metric = event.target.value; redraw(); });
  for (const figure of grid.querySelectorAll("[data-model]")) {
    const model = Number(figure.dataset.model);
    figure.querySelector(".swatch").append(svg("svg", { width: 24, height: 6 }, svg("path", { class: "curve", d: "M0 3H24", stroke: colour(model), "stroke-dasharray": dash(model) })));
  }
  const first = gridVideos[0];
  if (first) {
    const [width, height] = first.style.aspectRatio.split("/").map(Number);
    panes.style.setProperty("--aspect", width / height);
    for (const video of stageVideos) video.style.aspectRatio = first.style.aspectRatio;
  }
  [...gridVideos, ...stageVideos].forEach(watch);
  frame = clamp(Number(wished.get("frame")) - 1 || 0, 0, last);
  let redraw = () => {};
  if (columns.length) redraw = drawn(chart, draw);
  else byId("curves").hidden = true;
  const wishedView = document.querySelector(`input[name=view][value="${["pair", "wipe"].includes(wished.get("view")) ? wished.get("view") : "grid"}"]`);
  wishedView.checked = true;
  setView(wishedView.value);
  wipeTo(50);
  show();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? onScreen.add(entry.target) : onScreen.delete(entry.target);
    gridSources();
  }, { rootMargin: "50% 0px" });
  gridVideos.forEach((video) => observer.observe(video));
})();
