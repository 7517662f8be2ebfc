"use strict";
// Draws the charts of the page from its data blocks, and moves along the curve of the policy. No network, no eval.
(() => {
  const SVG = "http://www.w3.org/2000/svg", ALONG_THE_SLIDER = /^(tradeoff-chart|rejection-chart|risk-\d+)$/;
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = [];

  function element(parent, name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function html(parent, name, kind, text) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function written(value, axis) {
    if (axis.percent) return `${Number((100 * value).toPrecision(4))} %`;
    const size = Math.abs(value);
    return size >= 10000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(value.toPrecision(4)));
  }

  function scale(axis, values, from, to) {
    const map = axis.log ? Math.log10 : (value) => value;
    let low = Math.min(...values.map(map)), high = Math.max(...values.map(map));
    const margin = 0.05 * (high - low) || 0.1 * Math.abs(high) || 1;
    low -= margin; high += margin;
    const place = (value) => from + ((map(value) - low) / (high - low)) * (to - from);
    const ticks = axis.log ? logTicks(low, high) : linearTicks(low, high);
    return { place, ticks: axis.log && ticks.length < 2 ? linearTicks(10 ** low, 10 ** high) : ticks };
  }

  function linearTicks(low, high) {
    const rough = (high - low) / 7, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((width) => width >= rough);
    const ticks = [];
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) ticks.push(n * step);
    return ticks;
  }

  function logTicks(low, high) {
    const factors = high - low < 1.5 ? [1, 2, 3, 5, 7] : high - low < 3 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let n = Math.floor(low); n <= high; n += 1) {
      for (const factor of factors) {
        const place = n + Math.log10(factor);
        if (place >= low && place <= high) ticks.push(factor * 10 ** n);
      }
    }
    return ticks;
  }

  function draw(chart) {
    const { figure, spec } = chart, width = Math.max(280, figure.clientWidth), height = Math.min(420, 0.55 * width + 90);
    const frame = { right: width - 12, top: 10, bottom: height - 44 };
    const points = spec.series.flatMap((one) => one.points);
    const ends = points.flatMap(([, y, error]) => (
      spec.y.log ? [Math.max(y - error, y / 2), Math.min(y + error, 2 * y)] : [y - error, y + error]
    ));
    const y = scale(spec.y, ends, frame.bottom, frame.top);
    frame.left = 34 + 7 * Math.max(4, ...y.ticks.map((tick) => written(tick, spec.y).length)); // title, numbers, gap
    const x = scale(spec.x, points.map((point) => point[0]), frame.left, frame.right);
    chart.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.svg.replaceChildren();
    drawAxes(chart.svg, spec, x, y, frame);
    chart.places = [];
    for (const one of spec.series) drawSeries(chart, one, x, y, frame);
    Object.assign(chart, { x, y, frame });
    drawMark(chart);
  }

  function drawAxes(svg, spec, x, y, frame) {
    const rule = { stroke: "var(--rule)", "stroke-width": 1 }, middle = { "text-anchor": "middle" };
    let writtenTo = -Infinity; // where the last number ends
    for (const tick of x.ticks) {
      element(svg, "line", { ...rule, x1: x.place(tick), x2: x.place(tick), y1: frame.top, y2: frame.bottom });
      const text = written(tick, spec.x), half = 3.6 * text.length + 3;
      if (x.place(tick) - half < writtenTo) continue;
      element(svg, "text", { ...middle, x: x.place(tick), y: frame.bottom + 16 }, text);
      writtenTo = x.place(tick) + half;
    }
    for (const tick of y.ticks) {
      element(svg, "line", { ...rule, x1: frame.left, x2: frame.right, y1: y.place(tick), y2: y.place(tick) });
      element(svg, "text", { "text-anchor": "end", x: frame.left - 6, y: y.place(tick) + 4 }, written(tick, spec.y));
    }
    element(svg, "text", { ...middle, x: (frame.left + frame.right) / 2, y: frame.bottom + 36 }, spec.x.title);
    const centre = (frame.top + frame.bottom) / 2;
    element(svg, "text", { ...middle, transform: `translate(13 ${centre}) rotate(-90)` }, spec.y.title);
  }

  function drawSeries(chart, one, x, y, frame) {
    const stroke = { class: "stroke", style: `--c:${one.colour}` }, fill = { class: "fill", style: `--c:${one.colour}` };
    const places = one.points.map((point) => ({ point, one, x: x.place(point[0]), y: y.place(point[1]) }));
    const inside = (value) => {
      const place = chart.spec.y.log && value <= 0 ? frame.bottom : y.place(value);
      return Math.max(frame.top, Math.min(frame.bottom, place));
    };
    if (one.line) {
      if (one.band && one.points.some(([, , error]) => error > 0)) drawBand(chart, one, places, inside);
      const style = { ...stroke, fill: "none", "stroke-width": 2, "stroke-dasharray": one.dashed ? "5 4" : "none" };
      element(chart.svg, "polyline", { ...style, points: places.map((place) => `${place.x},${place.y}`).join(" ") });
    }
    for (const place of one.marked ? places : []) {
      const [, value, error] = place.point;
      if (error > 0 && !one.line) {
        const bar = { x1: place.x, x2: place.x, y1: inside(value + error), y2: inside(value - error) };
        element(chart.svg, "line", { ...bar, ...stroke, opacity: 0.5 });
      }
      element(chart.svg, "circle", { cx: place.x, cy: place.y, r: one.line ? 2.5 : 5, ...fill });
    }
    chart.places.push(...places);
  }

  function drawBand(chart, one, places, inside) {
    const side = (sign) => places.map(({ x, point: [, value, error] }) => `${x},${inside(value + sign * error)}`);
    const band = { class: "fill", style: `--c:${one.colour}`, opacity: 0.13, points: [...side(1), ...side(-1).reverse()].join(" ") };
    element(chart.svg, "polygon", band);
  }

  function drawMark(chart) {
    chart.svg.querySelectorAll(".mark").forEach((old) => old.remove());
    if (!chart.mark) return;
    const style = { class: "mark", fill: "none", stroke: "var(--accent)" }, share = chart.spec.name.startsWith("risk-") ? chart.mark.cost : chart.mark.share, x = chart.x.place(share);
    const { top, bottom } = chart.frame;
    element(chart.svg, "line", { ...style, "stroke-width": 1.5, "stroke-dasharray": "2 3", x1: x, x2: x, y1: top, y2: bottom });
    if (chart.spec.name !== "tradeoff-chart") return;
    element(chart.svg, "circle", { ...style, "stroke-width": 3, r: 9, cx: x, cy: chart.y.place(chart.mark.accuracy) });
  }

  function legend(figure, spec) {
    const list = html(figure, "div", "legend");
    for (const one of spec.series) {
      const entry = html(list, "span");
      html(entry, "b", one.line ? (one.dashed ? "dashed" : "") : "dot").style.setProperty("--c", one.colour);
      entry.append(one.name);
    }
  }

  function showNearest(chart, event) {
    const box = chart.svg.getBoundingClientRect(), zoom = chart.svg.viewBox.baseVal.width / box.width;
    const at = { x: (event.clientX - box.left) * zoom, y: (event.clientY - box.top) * zoom };
    const far = (place) => Math.hypot(place.x - at.x, place.y - at.y);
    const near = chart.places.reduce((best, place) => (far(place) < far(best) ? place : best));
    chart.tip.style.display = far(near) < 40 ? "block" : "none";
    const [x, y, error] = near.point, { spec } = chart, plusMinus = error ? ` ± ${written(error, spec.y)}` : "";
    chart.tip.textContent = `${near.one.name}: ${spec.x.title} ${written(x, spec.x)}, ${spec.y.title} ${written(y, spec.y)}${plusMinus}`;
    chart.tip.style.top = `${chart.svg.offsetTop + near.y / zoom + 12}px`;
    const left = near.x / zoom;
    chart.tip.style.left = left > box.width / 2 ? "auto" : `${left + 8}px`;
    chart.tip.style.right = left > box.width / 2 ? `${box.width - left + 8}px` : "auto";
  }

  function add(figure) {
    const spec = data(figure.dataset.of);
    html(figure, "figcaption", "", spec.title);
    const svg = element(figure, "svg", { role: "img", "aria-label": spec.title });
    legend(figure, spec);
    const chart = { figure, spec, svg, tip: html(figure, "div", "tip") };
    svg.addEventListener("pointermove", (event) => showNearest(chart, event));
    svg.addEventListener("pointerleave", () => { chart.tip.style.display = "none"; });
    charts.push(chart);
    draw(chart);
  }

  function slide(slider) {
    const put = (id, text) => { document.getElementById(id).textContent = text; };
    const point = data("slider-data").points[slider.value];
    point.texts.forEach(([, text], number) => put(`slider-${number}`, text));
    put("slider-kind", point.kind);
    for (const chart of charts.filter((one) => ALONG_THE_SLIDER.test(one.spec.name))) {
      chart.mark = point;
      drawMark(chart);
    }
  }

  function switchTheme() {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  }

  document.querySelectorAll("figure.chart").forEach(add);
  document.getElementById("theme").addEventListener("click", switchTheme);
  addEventListener("resize", () => charts.forEach(draw));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  const slider = document.getElementById("slider");
  if (slider) {
    slider.addEventListener("input", () => slide(slider));
    document.getElementById("slider-reset").addEventListener("click", () => {
      slider.value = data("slider-data").policy;
      slide(slider);
    });
    slide(slider);
  }
})();
