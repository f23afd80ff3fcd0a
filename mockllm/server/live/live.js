// Asks the mock once a second what it is doing, and shows it. Names are only ever set as text.
"use strict";

const SECONDS = 120;
const history = [];  // {at, inFlight, finished, output}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

function words(name) {
  return name.replace(/_usd$/, " USD").replace(/_s$/, " (s)").replaceAll("_", " ");
}

function tile(name, value) {
  const box = make("div");
  box.append(make("dt", name), make("dd", value));
  return box;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return null;
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? hours + " h " : "") + (hours || minutes ? minutes + " min " : "") + (whole % 60) + " s";
}

function draw(id, values) {
  const svg = document.getElementById(id);
  const most = Math.max(1e-9, ...values);
  const points = values.map((value, index) => {
    const x = values.length < 2 ? 0 : (index / (values.length - 1)) * 100;
    return x.toFixed(2) + "," + (30 - (value / most) * 26).toFixed(2);
  });
  svg.setAttribute("viewBox", "0 0 100 32");
  svg.setAttribute("preserveAspectRatio", "none");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.replaceChildren(line);
  const last = values.length ? values[values.length - 1] : 0;
  svg.setAttribute("aria-label", id + ": now " + shown(last) + ", at most " + shown(most));
  svg.parentElement.querySelector("figcaption").dataset.now = shown(last);
}

function rates(field) {
  return history.slice(1).map((now, index) => {
    const before = history[index];
    return Math.max(0, (now[field] - before[field]) / Math.max(1e-3, now.at - before.at));
  });
}

// A stage's state is whatever the stage says. Numbers that say something stand in a line; tables, lists and counters
// that are still zero are folded away.
function facts(state) {
  const line = make("dl", null, "facts"), rest = make("dl", null, "facts");
  const counts = Object.entries(state.counts || {});
  const plain = Object.entries(state).filter(([name, value]) => name !== "counts" && (value === null || typeof value !== "object"));
  for (const [name, value] of [...plain, ...counts]) (value || name in state ? line : rest).append(fact(words(name), share(name, value)));
  for (const [name, value] of Object.entries(state)) {
    if (name !== "counts" && value !== null && typeof value === "object") nested(words(name), value, rest);
  }
  if (!rest.children.length) return [line];
  const more = make("details");
  more.append(make("summary", "more"), rest);
  return [line, more];
}

function nested(name, value, into) {
  if (value === null || typeof value !== "object") {
    into.append(fact(name, share(name, value)));
  } else if (Array.isArray(value)) {
    value.forEach((item, index) => nested(name + " " + (index + 1), item, into));
  } else {
    for (const [key, item] of Object.entries(value)) nested(name + " " + words(key), item, into);
  }
}

function share(name, value) {
  return typeof value === "number" && /(^| |_)(rate|share|shares|quality)( |$)/.test(name) ? (value * 100).toFixed(1) + " %" : shown(value);
}

function fact(name, value) {
  const box = make("div");
  box.append(make("dt", name), make("dd", value));
  return box;
}

function stages(list) {
  document.getElementById("stack").hidden = list.length === 0;
  const open = new Set([...document.querySelectorAll("#stages details[open]")].map(each => each.dataset.stage));
  document.getElementById("stages").replaceChildren(...list.map(stage => {
    const item = make("li");
    item.append(make("h3", stage.name), make("p", stage.does), ...facts(stage.state));
    for (const more of item.querySelectorAll("details")) {
      more.dataset.stage = stage.name;
      more.open = open.has(stage.name);
    }
    return item;
  }));
}

function row(cells, tag) {
  const line = make("tr");
  for (const cell of cells) {
    const box = make(tag || "td");
    if (cell instanceof Node) box.append(cell); else box.textContent = cell;
    line.append(box);
  }
  return line;
}

function meter(value) {
  if (value === null || value === undefined) return "–";
  const box = make("span"), bar = make("meter");
  bar.min = 0; bar.max = 1; bar.value = value;
  box.append(bar, (value * 100).toFixed(1) + " %");
  return box;
}

function replicas(models) {
  const rows = [row(["replica", "state", "running", "waiting", "KV in use", "prefix hits", "preemptions"], "th")];
  for (const model of models) {
    const members = model.pool && Array.isArray(model.pool.members) ? Object.fromEntries(model.pool.members.map(m => [m.name, m])) : {};
    const seen = new Set();
    for (const part of model.replicas) {
      const name = part.name === "0" ? model.name : part.name;
      seen.add(part.name);
      const state = (members[part.name] || {}).state || "ready";
      rows.push(row([name, state, shown(part.running), shown(part.waiting), meter(part.kv_usage), part.prefix_hit_rate === null || part.prefix_hit_rate === undefined ? "–" : (part.prefix_hit_rate * 100).toFixed(1) + " %", shown(part.preemptions)]));
    }
    for (const member of Object.values(members)) {
      if (seen.has(member.name)) continue;
      const line = row([member.name, member.state || "", "–", "–", "–", "–", "–"]);
      line.className = "off";
      rows.push(line);
    }
  }
  document.getElementById("replicas").replaceChildren(...rows);
}

// {id, state, begins_s, ends_s, num_struck, fault: {kind, …}}
function faultRow(each) {
  const { kind, ...how } = each.fault;
  const details = Object.entries(how).filter(([name]) => name !== "at" && name !== "for").map(([name, value]) => words(name) + " " + shown(value));
  const line = row([kind, each.state, details.join(", ") || "everybody", shown(each.begins_s), shown(each.ends_s), shown(each.num_struck)]);
  if (each.state !== "active") line.className = "off";
  return line;
}

function faults(list) {
  document.getElementById("faults").hidden = !list || list.length === 0;
  if (!list || list.length === 0) return;
  const head = row(["fault", "state", "whom and how", "from (s of the run)", "to", "struck"], "th");
  document.getElementById("fault-table").replaceChildren(head, ...list.map(faultRow));
}

function show(state) {
  document.title = state.deployment + " · mockllm";
  document.getElementById("name").textContent = state.deployment;
  document.getElementById("summary").textContent = state.summary;
  const clock = document.getElementById("clock");
  clock.className = "";
  clock.textContent = state.run_s === null ? "up " + duration(state.now_s) + ", no request yet" : "up " + duration(state.now_s) + ", run " + duration(state.run_s);
  history.push({ at: state.now_s, inFlight: state.requests.in_flight, finished: state.requests.finished, output: state.tokens.output });
  while (history.length > SECONDS) history.shift();
  const tiles = Object.entries(state.requests).map(([name, value]) => tile(words(name), shown(value)));
  tiles.push(tile("output tokens", shown(state.tokens.output)));
  if (state.calls !== null) tiles.push(tile("calls to models", shown(state.calls)));
  if (state.cost_usd !== null) tiles.push(tile("cost of calls", "$" + state.cost_usd.toFixed(4)));
  document.getElementById("tiles").replaceChildren(...tiles);
  draw("in-flight", history.map(each => each.inFlight));
  draw("rate", rates("finished"));
  draw("tokens", rates("output"));
  stages(state.stages);
  replicas(state.models);
  faults(state.faults);
}

async function tick() {
  try {
    const answer = await fetch("/mock/state", { cache: "no-store" });
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    show(await answer.json());
  } catch (error) {
    const clock = document.getElementById("clock");
    clock.className = "lost";
    clock.textContent = "the mock does not answer (" + error.message + "); trying again";
  }
  setTimeout(tick, 1000);
}

tick();
