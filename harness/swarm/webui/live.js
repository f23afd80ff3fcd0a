// Asks once a second what is known of the run, and draws it. Names are only ever set as text.
"use strict";

const CHARTS = [
  { title: "TTFT, ms", unit: 1e3, lines: [["p50", "ttft_p50_s"], ["p90", "ttft_p90_s"], ["p99", "ttft_p99_s"]] },
  { title: "ITL, ms", unit: 1e3, lines: [["p50", "itl_p50_s"], ["p90", "itl_p90_s"], ["p99", "itl_p99_s"]] },
  { title: "Requests a second", unit: 1, lines: [["sent", "sent_rate"], ["failed", "bad_rate"], ["throttled", "throttled_rate"], ["good", "good_rate"], ["ok", "ok_rate"], ["refused", "refused_rate"]] },
  { title: "Output tokens a second", unit: 1, lines: [["tokens", "output_rate"]] },
  { title: "E2E, ms", unit: 1e3, lines: [["p50", "e2e_p50_s"], ["p90", "e2e_p90_s"], ["p99", "e2e_p99_s"]] },
  { title: "Requests in flight", unit: 1, isGauge: true, lines: [["in flight", "num_in_flight"]] },
  { title: "Instrument: worst lag of the event loop, lateness of sends, ms", unit: 1e3, lines: [["loop lag", "loop_lag_s"], ["send lag p90", "send_lag_p90_s"]] },
  { title: "Instrument: CPU of the busiest load process, %", unit: 100, isGauge: true, lines: [["CPU", "cpu"]] },
  { title: "Cost so far, USD", unit: 1, isGauge: true, lines: [["cost", "cost_usd"]] },
];
const LETTERS = ["a", "b", "c", "d", "e", "f"];
const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 20;
const KEPT = 600;

let run = null, names = [], rows = [], pointedAt = null;

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const known = value => value !== null && value !== undefined;

// Three significant digits, and a dash for what is not known.
function shown(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : 2 });
}

const count = value => (known(value) ? value.toLocaleString("en") : "–");
const ms = seconds => (known(seconds) ? shown(seconds * 1e3) : "–");
const percent = share => (known(share) ? (share * 100).toFixed(share < 0.9995 && share > 0.99 ? 2 : 1) + " %" : "–");
const dollars = value => (known(value) ? "$" + value.toFixed(value < 1 ? 4 : 2) : "–");

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds)), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? hours + " h " : "") + (hours || minutes ? minutes + " min " : "") + (whole % 60) + " s";
}

// -- charts --------------------------------------------------------------------------------------------

function column(name) {
  return names.indexOf(name);
}

function isShown(chart) {
  return chart.lines.some(([, name]) => rows.some(row => known(row[column(name)])));
}

function step(most, parts) {
  const rough = Math.max(most, 1e-9) / parts, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map(each => each * power).find(each => each >= rough * 0.999);
}

function build(chart) {
  chart.figure = make("figure");
  const caption = make("figcaption");
  chart.at = make("span", "", "at");
  caption.append(make("span", chart.title), chart.at);
  chart.svg = draw("svg", { role: "img", "aria-label": chart.title });
  const head = make("thead"), line = make("tr");
  line.append(make("th", ""), make("th", "last 10 s"), make("th", "highest"));
  head.append(line);
  chart.headNow = line.children[1];
  chart.body = make("tbody");
  const table = make("table"), beside = make("div", null, "beside");
  table.append(head, chart.body);
  beside.append(chart.svg, table);
  chart.figure.append(caption, beside);
  chart.svg.addEventListener("pointermove", event => {
    const box = chart.svg.getBoundingClientRect(), span = times();
    const at = span.from + ((event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT)) * (span.to - span.from);
    pointedAt = nearest(at);
    drawAll();
  });
  chart.svg.addEventListener("pointerleave", () => { pointedAt = null; drawAll(); });
}

function times() {
  const first = rows[0][0] < 10 ? 0 : rows[0][0];
  return { from: first, to: Math.max(rows[rows.length - 1][0], first + 10) };
}

function nearest(at) {
  let best = null;
  for (const row of rows) if (best === null || Math.abs(row[0] - at) < Math.abs(best[0] - at)) best = row;
  return best;
}

function drawChart(chart) {
  chart.figure.hidden = !isShown(chart);
  if (chart.figure.hidden) return;
  const width = Math.max(160, chart.svg.clientWidth || 320), height = Math.max(100, chart.svg.clientHeight || 176), span = times();
  const lines = chart.lines.map(([label, name], index) => ({ label, index: column(name), letter: LETTERS[index] }));
  const used = lines.filter(each => rows.some(row => known(row[each.index]) && (chart.lines.length < 4 || row[each.index] > 0)));
  const most = Math.max(0, ...used.flatMap(each => rows.map(row => (known(row[each.index]) ? row[each.index] * chart.unit : 0))));
  const tick = step(most, 3), top = Math.max(tick, Math.ceil(most / tick - 1e-9) * tick);
  const x = at => LEFT + ((at - span.from) / Math.max(1e-9, span.to - span.from)) * (width - LEFT - RIGHT);
  const y = value => height - BOTTOM - (value / top) * (height - TOP - BOTTOM);
  const parts = [];
  for (let value = 0; value <= top + tick / 2; value += tick) {
    parts.push(draw("line", { class: value ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value, top)));
  }
  const every = Math.max(1, step(span.to - span.from, 5));
  for (let at = Math.ceil(span.from / every) * every; at <= span.to + 1e-9; at += every) {
    const anchor = at - span.from < every / 2 ? "start" : span.to - at < every / 4 ? "end" : "middle";
    parts.push(draw("text", { x: x(at), y: height - 5, "text-anchor": anchor }, at.toLocaleString("en") + " s"));
  }
  for (const each of used) parts.push(...curve(each, chart.unit, x, y));
  if (pointedAt) parts.push(draw("line", { class: "cursor", x1: x(pointedAt[0]), x2: x(pointedAt[0]), y1: TOP, y2: height - BOTTOM }));
  chart.svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  chart.svg.replaceChildren(...parts);
  beside(chart, used);
}

const short = (value, top) => value.toLocaleString("en", { maximumSignificantDigits: 3, notation: top >= 1e4 ? "compact" : "standard" });

// What is not known is a gap, and never a zero.
function curve(line, unit, x, y) {
  const parts = [], flush = () => {
    if (points.length === 1) parts.push(draw("circle", { class: "dot-" + line.letter, cx: points[0][0], cy: points[0][1], r: 2 }));
    if (points.length > 1) parts.push(draw("path", { class: "line-" + line.letter, d: "M" + points.map(point => point[0].toFixed(1) + " " + point[1].toFixed(1)).join("L") }));
    points = [];
  };
  let points = [];
  for (const row of rows) {
    if (known(row[line.index])) points.push([x(row[0]), y(row[line.index] * unit)]); else flush();
  }
  flush();
  return parts;
}

function beside(chart, used) {
  const row = pointedAt || rows[rows.length - 1];
  chart.headNow.textContent = pointedAt ? "at " + shown(pointedAt[0]) + " s" : chart.isGauge ? "now" : "last 10 s";
  chart.body.replaceChildren(...used.map(each => {
    const line = make("tr"), label = make("th", null), key = draw("svg", { class: "key", viewBox: "0 0 30 10", "aria-hidden": "true" });
    key.append(draw("path", { class: "line-" + each.letter, d: "M1 5L29 5" }));
    label.append(key, each.label);
    const highest = Math.max(...rows.map(other => (known(other[each.index]) ? other[each.index] : -Infinity)));
    const value = row[each.index];
    const format = number => (known(number) && Number.isFinite(number) ? (chart.lines[0][1] === "cost_usd" ? dollars(number) : shown(number * chart.unit)) : "–");
    line.append(label, make("td", format(value)), make("td", format(highest)));
    return line;
  }));
}

function drawAll() {
  for (const chart of CHARTS) drawChart(chart);
}

// -- numbers -------------------------------------------------------------------------------------------

function tile(name, value, note, tone) {
  const box = make("div");
  box.append(make("dt", name), make("dd", value, tone ? "value " + tone : "value"));
  if (note) box.append(make("dd", note, "note"));
  return box;
}

function tail(metric) {
  for (const each of ["99", "95", "90"]) if (known(metric.percentiles[each])) return "p" + each + " " + ms(metric.percentiles[each]) + " ms";
  return metric.num ? "max " + ms(metric.maximum) + " ms" : "none yet";
}

function tiles(state) {
  const outcomes = state.outcomes, instrument = state.instrument, recent = state.recent;
  const bad = ["failed", "cut", "incomplete"].filter(name => outcomes[name]);
  const planned = state.course.reactive ? "plan goes on from answers" : "of " + count(state.course.num_planned) + " planned";
  const all = [
    tile("requests ended", count(state.num_ended), planned),
    tile("sent", count(state.num_sent), count(state.num_scheduled) + " have come due"),
    tile("in flight", count(state.num_in_flight)),
    tile("ok", count(outcomes.ok || 0), outcomes.left ? count(outcomes.left) + " left as planned" : null),
    tile("failed", count(bad.reduce((sum, name) => sum + outcomes[name], 0)), bad.map(name => count(outcomes[name]) + " " + name).join(", "), bad.length ? "bad" : null),
    tile("throttled", count(outcomes.throttled || 0), known(state.throttled_s) ? shown(state.throttled_s) + " s waited by " + count(state.num_waited) + " requests" : null, outcomes.throttled ? "warn" : null),
    tile("refused", count(outcomes.refused || 0), outcomes.refused ? "held back by ourselves" : null, outcomes.refused ? "warn" : null),
    tile("TTFT p50", ms(state.latencies.ttft.percentiles["50"]) + " ms", tail(state.latencies.ttft)),
    tile("ITL p50", ms(state.latencies.itl.percentiles["50"]) + " ms", tail(state.latencies.itl)),
    tile("TPOT p50", ms(state.latencies.tpot.percentiles["50"]) + " ms", tail(state.latencies.tpot)),
    tile("E2E p50", ms(state.latencies.e2e.percentiles["50"]) + " ms", tail(state.latencies.e2e)),
    tile("output tokens/s", shown(recent ? recent.output_rate : null), count(state.num_output_tokens) + " in all, " + shown(state.output_rate) + "/s"),
    tile("goodput", known(state.good_rate) ? shown(recent ? recent.good_rate : state.good_rate) + "/s" : "–", known(state.good_share) ? percent(state.good_share) + " of " + count(state.num_judged) + " meet " + state.objectives.join("; ") : "no objective: --objective"),
    tile("cost", dollars(state.cost_usd), known(state.cost_usd) ? "of " + count(state.num_priced) + " requests" : "no prices known"),
    tile("instrument so far", instrument.state || "–", "send lag " + tail(instrument.send_lag) + "; loop lag max " + ms(instrument.worst_loop_lag_s) + " ms", { VALID: "good", DEGRADED: "warn" }[instrument.state]),
    tile("load CPU", percent(instrument.cpu), "max " + percent(instrument.worst_cpu) + "; merged reads " + percent(instrument.merged_share)),
  ];
  document.getElementById("tiles").replaceChildren(...all);
}

function latencies(state) {
  const head = make("thead"), body = make("tbody"), titles = make("tr");
  for (const title of ["", "n", "mean", "p50", "p90", "p95", "p99", "max"]) titles.append(make("th", title));
  head.append(titles);
  for (const [name, metric] of Object.entries(state.latencies)) {
    const line = make("tr");
    line.append(make("th", name.toUpperCase()), make("td", count(metric.num)), make("td", ms(metric.mean)));
    for (const each of ["50", "90", "95", "99"]) line.append(make("td", ms(metric.percentiles[each])));
    line.append(make("td", ms(metric.maximum)));
    body.append(line);
  }
  document.getElementById("latencies").replaceChildren(head, body);
}

function show(state) {
  const clock = document.getElementById("clock");
  clock.className = "";
  if (state.state === "none") {
    clock.textContent = state.trouble ? "the run did not start, or could not be kept: " + state.trouble : "no run has been started yet";
    clock.className = state.trouble ? "bad" : "";
    return;
  }
  const course = state.course;
  if (run !== course.run_id) {
    run = course.run_id;
    rows = [];
  }
  names = state.series_names;
  rows = rows.concat(state.series.filter(row => !rows.length || row[0] > rows[rows.length - 1][0])).slice(-KEPT);
  document.title = course.scenario + " · LLM statistics";
  document.getElementById("name").textContent = course.scenario;
  document.getElementById("about").textContent = [course.model, "at " + course.target, course.num_workers > 1 ? course.num_workers + " workers" : null, course.directory].filter(known).join(" · ");
  const now = Math.max(0, state.now_s || 0);
  document.getElementById("bar").value = Math.min(1, now / course.duration_s);
  const whole = duration(now) + " of " + duration(course.duration_s);
  clock.textContent = {
    waiting: "starting",
    running: "running: " + whole + ", " + duration(state.left_s) + " left",
    draining: "the plan is over; waiting for " + count(state.num_in_flight) + " open answers, at most " + duration(state.left_s),
    over: "over after " + duration(now),
  }[state.state];
  const lost = state.lost_workers.map(name => "lost: " + name);
  document.getElementById("reasons").replaceChildren(...[...state.instrument.reasons, ...lost].map(text => make("li", text)));
  tiles(state);
  latencies(state);
  if (rows.length) drawAll();
}

// -- the page ------------------------------------------------------------------------------------------

function dress() {
  const chosen = localStorage.getItem("theme");
  const isDark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

async function tick() {
  let wait = 1000;
  try {
    const after = rows.length ? "?after=" + rows[rows.length - 1][0] : "";
    const answer = await fetch("./live.json" + after, { cache: "no-store" });
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    const state = await answer.json();
    if (state.course && run !== null && state.course.run_id !== run) {
      rows = [];  // another run: ask again, for all of it
      run = state.course.run_id;
      wait = 0;
    } else {
      show(state);
    }
  } catch (error) {
    const clock = document.getElementById("clock");
    clock.className = "lost";
    clock.textContent = "Locust does not answer (" + error.message + "); trying again";
  }
  setTimeout(tick, wait);
}

if (new URLSearchParams(location.search).has("inside")) document.documentElement.dataset.inside = "";
for (const chart of CHARTS) {
  build(chart);
  chart.figure.hidden = true;
  document.getElementById("charts").append(chart.figure);
}
addEventListener("storage", dress);
addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
dress();
tick();
